"""scripts/gpu_tests.sh: every file of GPU tests is run once, by the right interpreter, and a failure is the status."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {path.stem for folder in ("gpu", "formats/*") for path in (ROOT / "tests").glob(f"{folder}/test_*.py")
         if "mark.gpu" in path.read_text()} | {"test_inputs"}  # half on a GPU
RECORD = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in *{fails}*) echo "1 failed in 1s"; exit 1;; *test_stock_gpu*) echo "1 skipped in 1s"; exit 5;; esac
echo "3 passed in 1s"
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script with programs that only record their calls: (what it did, calls as lists of words)."""
    def start(fails="nothing", sanitizer=True):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("for-paddle", "for-torch", *["compute-sanitizer"] * sanitizer):
            (programs / name).write_text(RECORD.format(fails=fails))
            (programs / name).chmod(0o755)
        done = subprocess.run(
            [ROOT / "scripts" / "gpu_tests.sh", tmp_path / "out"], capture_output=True, text=True,
            env={**os.environ, "PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"),
                 "PADDLE_PYTHON": str(programs / "for-paddle"), "TORCH_PYTHON": str(programs / "for-torch")})
        return done, [line.split() for line in (tmp_path / "calls").read_text().splitlines()]

    return start


def test_every_file_once(run):
    done, calls = run()
    assert done.returncode == 0, done.stderr
    tests = [call for call in calls if call[0] != "compute-sanitizer"]
    files = [next(word for word in call if word.startswith("tests/")) for call in tests]
    assert sorted(Path(file).stem for file in files) == sorted(FILES)
    for file, (program, *words) in zip(files, tests):
        kernels = "\nneed_gpu()" in (ROOT / file).read_text(encoding="utf-8")
        assert program == ("for-torch" if kernels else "for-paddle") and ("--noconftest" in words) == kernels
    assert len(calls) - len(tests) == 2
    assert len(done.stdout.splitlines()) == len(calls)


def test_a_failure_is_named(run):
    done, calls = run(fails="test_nvml_gpu", sanitizer=False)
    assert done.returncode == 1 and "error: failed: test_nvml_gpu (logs in " in done.stderr
    assert len(calls) == len(FILES)  # the others ran all the same
