"""What the Makefile hands to the benchmark: the command as it was typed, further cases, the verdict's file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.provenance import MAKE_COMMAND, asked_for

ROOT = Path(__file__).parents[1]
INTERPRETER = """#!/bin/sh
case "$*" in *"-m bench"*) printf %s "$QWEN_VL_MAKE" > "$0.typed"; exit;; esac
exec {python} "$@"
"""


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Call make with variables; returns what the results will name as its command."""
    python = tmp_path / "python"
    python.write_text(INTERPRETER.format(python=sys.executable))
    python.chmod(0o755)

    def called(goal, *variables, **environment):
        # Not the variables of a make that runs these tests.
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        subprocess.run(["make", goal, f"BUILD={tmp_path / 'build'}", f"PADDLE_PYTHON={python}",
                        f"TORCH_PYTHON={python}", *variables], cwd=ROOT, env={**env, **environment}, check=True,
                       capture_output=True)
        monkeypatch.setenv(MAKE_COMMAND, Path(f"{python}.typed").read_text())
        return asked_for(["python"])
    return called


def test_command_as_typed(typed):
    assert typed("bench", "ARMS=torch-sdpa", "BUDGET=9", "PROMPT=what's \"this\" $x?", PRESET="tiny") == [
        "make", "bench", "PRESET=tiny", "ARMS=torch-sdpa", "BUDGET=9", "PROMPT=what's \"this\" $x?"]
    assert typed("compare", "PRESET=tiny", "BASE=HEAD~1") == ["make", "compare", "PRESET=tiny", "BASE=HEAD~1"]


@pytest.mark.parametrize("variables, options", [
    (["BATCHES=2,4", "LENGTHS=1,8"], ["--batches 2,4", "--lengths 1,8"]),
    (["DEVICE=gpu", "DTYPE=float16"], ["--batches 1,2,4,8,16", "--lengths 1,16,64,128,256", "--case-budget 15"]),
    (["DEVICE=gpu", "DTYPE=float16", "BATCHES=3"], ["--batches 3"]), ([], [])])
def test_further_cases(tmp_path, variables, options):
    done = subprocess.run(["make", "-n", "bench", "PRESET=tiny", "ARMS=torch-sdpa", f"BUILD={tmp_path}",
                           f"PADDLE_PYTHON={sys.executable}", f"TORCH_PYTHON={sys.executable}", *variables], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    assert all(option in done for option in options)
    assert sum(done.count(f"{name} ") for name in ("--batches", "--lengths", "--case-budget")) == len(options)


def test_verdict_file(tmp_path):
    done = subprocess.run(["make", "-n", "regress", "PRESET=tiny", "VERDICT=/x/v.json", f"BUILD={tmp_path}",
                           f"PADDLE_PYTHON={sys.executable}", f"TORCH_PYTHON={sys.executable}"], cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    assert "--verdict /x/v.json" in done
