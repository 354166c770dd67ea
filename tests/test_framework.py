"""What Paddle's import cannot do without is said in one line."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = "from core.errors import run_cli; from ops.framework import import_paddle; run_cli(import_paddle)"


def test_python_without_docstrings_is_refused():
    done = subprocess.run([sys.executable, "-OO", "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Paddle cannot be imported without docstrings: unset PYTHONOPTIMIZE")
    assert done.stderr.count("\n") == 1
