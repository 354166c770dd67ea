"""`make doctor`: a verdict for every target, on machines that have everything and on bare ones, never a traceback."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops import build, target
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
    listed = set(re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(verdict) == listed - {"help", "doctor", "clean", "export-vision", "export-language"} | {"DEVICE=gpu"}
    assert all(works or reason for works, reason in verdict.values())
    assert f"paddlepaddle {importlib.metadata.version('paddlepaddle')}" in text


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
    missing = f"paddlepaddle-gpu missing instead of {doctor.pins()['paddlepaddle']}"
    assert doctor.unmet(doctor.pins(), gpu=True) == [missing]


@pytest.mark.parametrize("path", ["/proc/self/mem", "/no/such/file"])
def test_unreadable_files_read_as_nothing(path):
    assert doctor.read(path) == ""


def test_only_the_standard_library_is_needed():
    code = "import sys; sys.path.insert(0, '.'); import scripts.doctor"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, check=True)


def fake_python(path, selfcheck):
    """An interpreter that does what `selfcheck` says in the place of the operators' check, and is this one else."""
    path.write_text(f'#!/bin/sh\ncase "$*" in *ops.selfcheck*) {selfcheck};; esac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def described(path, **changes):
    """A file that says what a library for this machine says, but for the changes; returns its name."""
    made, *_ = build.plan("cpu")
    path.write_bytes(target.MARK + json.dumps({**made, **changes}).encode() + b"\0")
    return str(path)


@pytest.mark.parametrize("selfcheck, reason", [
    ("kill -ILL $$", "the operators' check on the cpu failed (killed by SIGILL): make ops"),
    ("echo 'WRONG decoder in float32: relative error 1.0'; exit 3", "operators give wrong results on the cpu"),
    ("echo 'error: cannot load it' >&2; exit 1", "failed (cannot load it): make ops")])
def test_verdict_follows_from_the_check_of_the_operators(tmp_path, selfcheck, reason):
    python = fake_python(tmp_path / "p", selfcheck)
    verdict, _ = run(QWEN_VL_OPS=described(tmp_path / "lib.so"), PADDLE_PYTHON=python, TORCH_PYTHON=sys.executable)
    assert all(not verdict[goal][0] and reason in verdict[goal][1] for goal in ("export", "infer", "bench", "replay"))
    assert verdict["baseline"][0] and verdict["report"][0]


def test_library_of_another_cpu_is_named_and_built_again(tmp_path):
    library = described(tmp_path / "lib.so", instructions=["avx1024"])
    verdict, text = run(QWEN_VL_OPS=library)
    assert verdict["infer"][0] and f"{library} was built for a CPU with avx1024" in text and "(automatic)" in text
    verdict, _ = run(QWEN_VL_OPS=library, CXX="no-such-compiler")
    assert not verdict["infer"][0] and not verdict["bench"][0]


def test_what_is_built_needs_no_compiler(tmp_path):
    python = fake_python(tmp_path / "p", "echo ok; exit 0")
    verdict, _ = run(QWEN_VL_OPS=described(tmp_path / "lib.so"), PADDLE_PYTHON=python, CXX="no-such-compiler")
    assert verdict["infer"][0] and not verdict["ops"][0]


def test_a_clone_in_a_folder_that_make_refuses(monkeypatch, capsys):
    monkeypatch.setattr(doctor.variables, "PLAIN", re.compile("nothing"))
    doctor.main()
    verdict = {goal: (works, reason) for works, goal, reason in VERDICT.findall(capsys.readouterr().out)}
    assert {works for works, _ in verdict.values()} == {"no "}
    assert "a path that may hold" in verdict["bench"][1]
