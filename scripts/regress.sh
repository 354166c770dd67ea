#!/usr/bin/env bash
# `make regress` with a status that scripts and CI can use: make itself ends with 2 for every failure.
#   scripts/regress.sh [VARIABLE=value …]
# 0: no regression (or a baseline stored); 1: a regression that the re-run confirmed; 2: it cannot be told.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

verdict=$(mktemp)
trap 'rm -f "$verdict"' EXIT
make regress "$@" VERDICT="$verdict"
status=$(sed -n 's/^ *"status": \([0-9]*\),$/\1/p' "$verdict")
if [[ -z $status ]]; then
    echo "cannot tell: make ended before anything was measured" >&2
    status=2
fi
exit "$status"
