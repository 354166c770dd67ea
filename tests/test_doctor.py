"""`make doctor`: a verdict for every target, on machines that have everything and on bare ones, never a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import doctor

ROOT = Path(__file__).parent.parent
VERDICT = re.compile(r"^  (yes|no ) (\S+) *(.*)$", re.MULTILINE)


def run(**variables):
    """{target: (works, reason)} and the whole text."""
    done = subprocess.run([sys.executable, "-m", "scripts.doctor"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PADDLE_PYTHON": sys.executable, **variables})
    assert done.returncode == 0 and done.stderr == ""
    return {target: (works == "yes", reason) for works, target, reason in VERDICT.findall(done.stdout)}, done.stdout


def test_every_target_has_a_verdict():
    verdict, text = run()
    assert {"setup", "ops", "check", "checkpoint", "convert", "export", "infer", "baseline", "bench", "report",
            "replay", "test", "lint", "DEVICE=gpu"} == set(verdict)
    assert all(works or reason for works, reason in verdict.values())
    assert "paddlepaddle 2.6.2" in text


def test_no_compiler():
    verdict, _ = run(CXX="no-such-compiler")
    assert verdict["ops"] == (False, "no C++ compiler (no-such-compiler): apt install g++")
    assert verdict["report"][0]


def test_bare_machine(tmp_path):
    verdict, text = run(PADDLE_PYTHON="/no/python", TORCH_PYTHON="/no/python", PATH=str(tmp_path))
    assert not verdict["setup"][0] and "apt install" in verdict["bench"][1]
    assert "paddlepaddle not installed" in text


def test_model_larger_than_the_memory(monkeypatch):
    monkeypatch.setenv("PRESET", "7b")
    what, weights = doctor.model()
    assert what == "PRESET=7b" and weights > 30 << 30


def test_checkpoint_that_is_none(tmp_path):
    verdict, _ = run(CKPT=str(tmp_path))
    assert not verdict["infer"][0] and "config.json" in verdict["infer"][1]


def test_other_versions_are_named():
    found = {**doctor.pins(), "numpy": "1.0", "torch": f"{doctor.pins()['torch']}+cpu"}
    del found["tiktoken"]
    faults = doctor.unmet(found, gpu=False)
    assert any(fault.startswith("numpy 1.0 instead of") for fault in faults) and len(faults) == 2
    assert any(fault.startswith("tiktoken missing") for fault in faults)


def test_gpu_wheel_counts_as_paddle():
    found = {**doctor.pins(), "paddlepaddle-gpu": doctor.pins()["paddlepaddle"]}
    del found["paddlepaddle"]
    assert doctor.unmet(found, gpu=True) == []
    assert doctor.unmet(doctor.pins(), gpu=True) == ["paddlepaddle-gpu missing instead of 2.6.2"]


@pytest.mark.parametrize("path", ["/proc/self/mem", "/no/such/file"])
def test_unreadable_files_read_as_nothing(path):
    assert doctor.read(path) == ""


def test_only_the_standard_library_is_needed():
    code = "import sys; sys.path.insert(0, '.'); import scripts.doctor"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, check=True)
