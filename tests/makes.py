"""Running this repository's Makefile from a test, in an environment that holds nothing of a make around it."""

import os
import subprocess
import sys
from pathlib import Path

from bench.versions import MAKE_VARIABLES

ROOT = Path(__file__).parent.parent
# Stands for an interpreter: writes the words and variables of the command that it is asked for, and runs all others.
RECORDER = """#!{python} -P
import json, os, sys
if ["-m", {module!r}] == sys.argv[1:3]:
    with open({record!r}, "w") as f:
        json.dump([sys.argv[1:], dict(os.environ)], f)
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


def run_make(*arguments, root=ROOT, environment=None):
    """make in the folder `root` with this interpreter instead of .venv; `environment` adds variables."""
    env = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    own = {"PADDLE_PYTHON": sys.executable, "TORCH_PYTHON": sys.executable}
    return subprocess.run(["make", *arguments], cwd=root, env={**env, **own, **(environment or {})},
                          capture_output=True, text=True, errors="surrogateescape")


def recorder(folder, module):
    """(interpreter, file): what `python -m module` is called with is written to the file, see RECORDER."""
    python, record = folder / "python", folder / "record.json"
    python.write_text(RECORDER.format(python=sys.executable, module=module, record=str(record)))
    python.chmod(0o755)
    return python, record
