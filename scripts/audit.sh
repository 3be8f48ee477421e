#!/usr/bin/env bash
# Look up requirements/lock.txt among the known vulnerabilities (pip-audit, from PyPI's advisories); skipped where that service does not answer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
python=$(find_python) || die "Python 3.10 or newer is needed"
service="https://pypi.org/pypi/pip/24.0/json"
if ! "$python" -c "import json, urllib.request; json.load(urllib.request.urlopen('$service', timeout=10))['vulnerabilities']" 2>/dev/null; then
  say "pip-audit skipped: $service does not answer with advisories from here"
  exit 0
fi
say "Known vulnerabilities of requirements/lock.txt (pip-audit)"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit
"$folder/bin/pip-audit" --requirement requirements/lock.txt --no-deps --disable-pip --vulnerability-service pypi
