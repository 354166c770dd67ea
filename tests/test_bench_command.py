"""The command line over the real arms: a small run of all four, the report, the baseline, bad arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import options_of, parse
from bench.options import Limits
from bench.plan import PLANS, judged
from bench.schema import read_rows

ROOT = Path(__file__).parents[1]


def command(*args, check=True):
    """Run `python -m` with args in the repository; stdout and stderr."""
    done = subprocess.run([sys.executable, "-m", *map(str, args)], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny random checkpoint and both its exports: {"checkpoint", "native", "fused"}."""
    root = tmp_path_factory.mktemp("command")
    command("export.synthetic", "--preset", "tiny", root / "tiny")
    for impl in ("native", "fused"):
        command("export", "all", root / "tiny", root / impl, "--impl", impl)
    return {"checkpoint": root / "tiny", "native": root / "native", "fused": root / "fused"}


def test_all_arms_agree_and_are_measured(made, tmp_path):
    done = command("bench", "run", "--checkpoint", made["checkpoint"], "--exported-native", made["native"],
                   "--exported-fused", made["fused"], "--out", tmp_path, "--device", "cpu", "--threads", 1,
                   "--new-tokens", 4, "--rounds", 2, "--warmup", 1, "--batch", 2)
    (folder,) = (path.parent for path in tmp_path.rglob("rows.jsonl"))
    rows = read_rows(folder / "rows.jsonl")
    assert {row.arm for row in rows} == {"torch-eager", "torch-sdpa", "paddle-native", "paddle-fused"}
    assert {(row.status, row.reason) for row in rows} == {("ok", "")}
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert accuracy["reference"] == "torch-eager"
    assert all(arm["passed"] and arm["tokens"]["equal"] for arm in accuracy["arms"].values())
    assert "end to end" in done.stdout and "paddle-fused: round 2, 2 at most" in done.stderr

    again = command("bench", "report", tmp_path)
    assert "speed-up vs torch-sdpa" in again.stdout


def test_baseline_prints_text_and_times(made):
    done = command("bench", "baseline", "--checkpoint", made["checkpoint"], "--device", "cpu", "--threads", 1,
                   "--new-tokens", 3)
    for text in ("vision", "prefill", "end_to_end", "torch-sdpa, float32, cpu", "3 new tokens"):
        assert text in done.stdout


def test_baseline_names_what_is_wrong(made, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "qwen.tiktoken"):
        (broken / name).write_bytes((made["checkpoint"] / name).read_bytes())
    done = command("bench", "baseline", "--checkpoint", broken, "--device", "cpu", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no weights in")


@pytest.mark.parametrize("args", [["run"], ["run", "--checkpoint", "x", "--arms", "torch-lazy"],
                                  ["run", "--checkpoint", "x", "--rounds", "0"],
                                  ["run", "--checkpoint", "x", "--launches", "0"],
                                  ["run", "--checkpoint", "x", "--warmup", "-1"],
                                  ["run", "--checkpoint", "x", "--batches", "1,0"], ["fly"],
                                  ["run", "--checkpoint", "x", "--paddle-env", "PYTHONPATH"]])
def test_bad_arguments(args, capsys):
    with pytest.raises(SystemExit) as e:
        parse(args)
    assert e.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


def test_interpreters_and_environment(monkeypatch):
    monkeypatch.setenv("TORCH_PYTHON", "/usr/bin/python-of-torch")
    for name in ("PADDLE_PYTHON", "VLLM_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    options = options_of(parse(["run", "--checkpoint", "x", "--paddle-env", "PYTHONPATH=/a=b", "LD_LIBRARY_PATH=/c:/d",
                                "--paddle-env", "E=", "--device", "gpu", "--batches", "1,2", "--lengths", "16"]))
    assert options.sources.python == {"torch": "/usr/bin/python-of-torch", "paddle": sys.executable,
                                      "vllm": sys.executable, "paddle_other": sys.executable}
    assert options.sources.environment == {"torch": {}, "vllm": {}, "paddle_other": {}, "paddle": {
        "PYTHONPATH": "/a=b", "LD_LIBRARY_PATH": "/c:/d", "E": ""}}
    assert options.case.device == "gpu" and "torch-compile" in options.arms
    assert (options.further.batches, options.further.lengths) == ((1, 2), (16,))


def test_compiled_arm_is_no_default_on_the_cpu():
    assert "torch-compile" not in options_of(parse(["run", "--checkpoint", "x", "--device", "cpu"])).arms


@pytest.mark.parametrize("words", [["compare", "--base", "y"], ["regress"]])
def test_verdicts_have_limits_of_their_own(words):
    limits = judged(options_of(parse([*words, "--checkpoint", "x", "--device", "cpu", "--deadline", "9"]))).limits
    plan = PLANS["cpu"]
    assert limits == Limits(launches=plan.judged, rounds=plan.rounds, warmup=plan.warmup, deadline=9, budget=0, cold=0,
                            new_lengths=0)


@pytest.mark.parametrize("option", ["--budget", "--deadline", "--case-budget"])
@pytest.mark.parametrize("text", ["nan", "inf", "-1", "a minute"])
def test_what_is_no_number_of_seconds(option, text):
    done = command("bench", "run", "--checkpoint", ".", "--device", "cpu", f"{option}={text}", check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and option in done.stderr
