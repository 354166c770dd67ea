"""What the Makefile hands to the benchmark: the command as it was typed, further cases, the verdict's file."""

import json
import os

import pytest
from makes import recorder, run_make

from bench.provenance import MAKE_COMMAND, asked_for


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Call make with variables; returns what the results will name as its command."""
    def called(goal, *variables, **environment):
        python, record = recorder(tmp_path, "bench")
        done = run_make(goal, f"BUILD={tmp_path / 'build'}", f"PADDLE_PYTHON={python}", *variables,
                        environment=environment)
        assert done.returncode == 0, done.stderr
        _, handed = json.loads(record.read_text())
        for name in [MAKE_COMMAND, *handed[MAKE_COMMAND].split()[1:]]:
            monkeypatch.setenv(name, handed[name])
        return asked_for(["python"])
    return called


def test_command_as_typed(typed):
    assert typed("bench", "ARMS=torch-sdpa", "BUDGET=9", "PROMPT=what's \"this\"\n$x?", PRESET="tiny") == [
        "make", "bench", "PRESET=tiny", "ARMS=torch-sdpa", "BUDGET=9", "PROMPT=what's \"this\"\n$x?"]
    assert typed("compare", "PRESET=tiny", "BASE=HEAD~1") == ["make", "compare", "PRESET=tiny", "BASE=HEAD~1"]


@pytest.mark.parametrize("variables, options", [
    (["BATCHES=2,4", "LENGTHS=1,8"], ["--batches 2,4", "--lengths 1,8"]),
    (["DEVICE=gpu", "DTYPE=float16"], ["--batches 1,2,4,8,16", "--lengths 1,16,64,128,256", "--case-budget 15"]),
    (["DEVICE=gpu", "DTYPE=float16", "BATCHES=3"], ["--batches 3"]), ([], [])])
def test_further_cases(tmp_path, variables, options):
    python, record = recorder(tmp_path, "bench")
    more = [] if "DEVICE=gpu" in variables else ["DEVICE=cpu"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")  # a machine that may have a GPU
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert run_make("bench", "PRESET=tiny", "ARMS=torch-sdpa", f"BUILD={tmp_path}", f"PADDLE_PYTHON={python}", *more,
                    *variables, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).returncode == 0
    words = json.loads(record.read_text())[0]
    line = " ".join(words).replace("=", " ")
    assert all(option in line for option in options)
    assert sum(line.count(f"{name} ") for name in ("--batches", "--lengths", "--case-budget")) == len(options)


def test_verdict_file(tmp_path):
    done = run_make("-n", "regress", "PRESET=tiny", "VERDICT=/x/v.json", f"BUILD={tmp_path}")
    assert '--verdict="$VERDICT"' in done.stdout
