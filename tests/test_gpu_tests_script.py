"""scripts/gpu_tests.sh: every file of GPU tests is run once, by the right interpreter, and a failure is the status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {path.stem for folder in ("gpu", "formats/*") for path in (ROOT / "tests").glob(f"{folder}/test_*.py")
         if "mark.gpu" in path.read_text()} | {"test_inputs"}  # half on a GPU
RECORD = """#!/bin/bash
if [[ $1 == scripts/tests_summary.py ]]; then exec {python} "$@"; fi
echo "$(basename "$0") $*" >> "$CALLS"
for word in "$@"; do case $word in --junitxml=*) report=${{word#*=}};; esac; done
write() {{ echo "<testsuites><testsuite tests='3' failures='$1' skipped='$2' errors='0' time='1.25'/></testsuites>"; }}
case "$*" in
*{fails}*) write 1 0 > "$report"; exit 1;;
*test_stock_gpu*) write 0 3 > "$report"; exit 5;;
*test_replay_gpu*) exit 0;;
esac
write 0 0 > "$report"
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script with programs that only record their calls: (what it did, calls as lists of words)."""
    def start(fails="nothing", sanitizer=True):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("for-paddle", "for-torch", *["compute-sanitizer"] * sanitizer):
            (programs / name).write_text(RECORD.format(fails=fails, python=sys.executable))
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
    lines = {name: rest for name, rest in (line.split(maxsplit=1) for line in done.stdout.splitlines())}
    assert len(lines) == len(calls) and lines["test_nvml_gpu"] == lines["memcheck_decode"] == "3 passed in 1.2 s"
    assert lines["test_stock_gpu"] == "3 skipped in 1.2 s" and "did not run to their end" in lines["test_replay_gpu"]


def test_a_failure_is_named(run):
    done, calls = run(fails="test_nvml_gpu", sanitizer=False)
    assert done.returncode == 1 and "error: failed: test_nvml_gpu (logs in " in done.stderr
    assert len(calls) == len(FILES)  # the others ran all the same
    assert "2 passed, 1 failed in 1.2 s" in done.stdout


def test_counts_are_those_of_pytests_report(tmp_path):
    (tmp_path / "test_any.py").write_text("""import pytest
@pytest.mark.parametrize('i', range(3))
def test_a(i): pass
def test_b(): assert False
def test_c(): pytest.skip()
def test_d(missing): pass
""")
    report = tmp_path / "report.xml"

    def python(*words):
        return subprocess.run([sys.executable, *words], capture_output=True, text=True)
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", tmp_path)
    done = python(ROOT / "scripts" / "tests_summary.py", report)
    assert done.returncode == 0 and done.stdout.startswith("3 passed, 1 failed, 1 errors, 1 skipped in ")
    report.write_text("")
    done = python(ROOT / "scripts" / "tests_summary.py", report)
    assert done.returncode == 1 and done.stderr.startswith("error: the tests did not run to their end")
