#!/usr/bin/env bash
# Make the environment and run every test. Arguments go to pytest: ./scripts/test.sh -k als
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
say "Tests"
exec python -m pytest -n auto --dist loadfile --durations=20 "$@"
