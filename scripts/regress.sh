#!/usr/bin/env bash
# `make regress` with a status that scripts and CI can use: make itself ends with 2 for every failure.
#   scripts/regress.sh [VARIABLE=value …]
# 0: no regression (or a baseline stored); 1: a regression that the re-run confirmed; 2: it cannot be told.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

verdict=$(mktemp)
trap 'rm -f "$verdict"' EXIT
make regress "$@" VERDICT="$verdict"
python=$(command -v "${PADDLE_PYTHON:-.venv/bin/python}" python3 | head -n 1)
status=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["status"])' "$verdict" 2> /dev/null)
if [[ -z $status ]]; then
    echo "cannot tell: make ended before anything was measured" >&2
    status=2
fi
exit "$status"
