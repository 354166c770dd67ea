"""What Paddle's import cannot do without is said in one line."""

import os
import shutil
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


def test_the_import_says_nothing(tmp_path):
    """Whatever the machine lacks that Paddle's own builds would use."""
    for tool in ("cat", "grep"):  # which 2.6.2's import calls
        (tmp_path / tool).symlink_to(shutil.which(tool))
    code = "from ops.framework import import_paddle; import_paddle().utils.cpp_extension"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
