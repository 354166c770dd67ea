#!/usr/bin/env bash
# wheel_stamp.sh PYTHON FILE: write into FILE which Paddle wheel PYTHON has; FILE keeps its time while that is the same.
set -euo pipefail
command -v "$1" > /dev/null || exit 0
now=$("$1" - <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version

print("Python %d.%d" % sys.version_info[:2])
for name in ("paddlepaddle", "paddlepaddle-gpu"):
    try:
        print(name, version(name))
    except PackageNotFoundError:
        pass
PYTHON
)
if [[ ! -e $2 || $(<"$2") != "$now" ]]; then
    mkdir -p "$(dirname "$2")"
    echo "$now" > "$2.partial-$$"
    mv "$2.partial-$$" "$2"
fi
