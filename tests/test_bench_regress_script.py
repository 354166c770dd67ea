"""scripts/regress.sh: the status of the verdict, which make cannot pass on."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = """#!/bin/sh
for word in "$@"; do case $word in VERDICT=*) file=${word#VERDICT=};; esac; done
%s
exit %d
"""
VERDICT = """printf '{\\n "schema": 1,\\n "status": %d,\\n "line": "x"\\n}\\n' > "$file" """


@pytest.mark.parametrize("wrote, ended, status", [(0, 0, 0), (1, 2, 1), (2, 2, 2), (130, 2, 130), (None, 2, 2),
                                                  (None, 0, 2)])
def test_status(tmp_path, wrote, ended, status):
    make = tmp_path / "make"
    make.write_text(MAKE % ("" if wrote is None else VERDICT % wrote, ended))
    make.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "scripts" / "regress.sh", "PRESET=tiny"], env=env, capture_output=True, text=True)
    assert done.returncode == status
    assert ("cannot tell: make ended before" in done.stderr) == (wrote is None)
