"""The arm vllm over a stand-in for vLLM: the checkpoint's weights, the gate, and what it says where vLLM is not."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import options_of, parse
from bench.arms import ARMS, default_arms
from bench.run import exit_status, run
from export.synthetic import write_checkpoint
from tests.bench_options import run_options

STAND_IN = Path(__file__).parent / "fake_vllm"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("vllm") / "tiny")


@pytest.fixture
def compete(checkpoint, tmp_path):
    """{(arm, batch): its end-to-end row} and all rows of torch-eager beside vllm."""
    def competed(environment, **changes):
        specs = {**ARMS, "vllm": replace(ARMS["vllm"], options={"backend": "eager"})}   # no code is generated
        options = run_options(**{"checkpoint": checkpoint, "out": str(tmp_path / "results"), "warmup": 0, "rounds": 2,
                                 "arms": ("torch-eager", "vllm"), "new_tokens": 3, "new_lengths": 1, "case_rounds": 1,
                                 "environment": {"vllm": environment}, **changes})
        _, rows = run(options, ["bench"], specs=specs)
        return {(row.arm, row.case.batch): row for row in rows if row.stage == "end_to_end"}, rows
    return competed


def test_it_passes_the_gate_on_the_checkpoints_weights(compete):
    ends, rows = compete({"PYTHONPATH": str(STAND_IN)}, batches=(2, 40))
    assert ends["vllm", 1].status == ends["vllm", 2].status == "ok", (ends["vllm", 1].reason, ends["vllm", 2].reason)
    assert ends["vllm", 1].provenance["versions"]["vllm"] == "0.0 of the tests"
    stages = {row.stage: row for row in rows if row.arm == "vllm" and row.case == rows[0].case}
    assert all(len(stages[stage].samples) == 2 for stage in ("vision", "prefill", "token", "without_preprocess"))
    assert ends["vllm", 40].status == "skipped" and "32 rows" in ends["vllm", 40].reason and exit_status(rows) == 0


def test_without_vllm_it_says_how_to_get_it(compete):
    ends, rows = compete({})
    assert ends["vllm", 1].status == "skipped" and exit_status(rows) == 0
    for part in ("no vllm", "pip install vllm==", "VLLM_PYTHON="):
        assert part in ends["vllm", 1].reason


def test_it_is_left_out_unless_its_interpreter_or_it_is_named(monkeypatch):
    monkeypatch.delenv("VLLM_PYTHON", raising=False)
    words = ["run", "--checkpoint", "x", "--device", "gpu", "--dtype", "float16"]
    assert not {"vllm", "vllm-fp8"} & set(options_of(parse(words)).arms)
    assert {"vllm", "vllm-fp8"} <= set(options_of(parse([*words, "--vllm-python", sys.executable])).arms)
    assert options_of(parse([*words, "--arms", "vllm"])).arms == ("vllm",)
    monkeypatch.setenv("VLLM_PYTHON", sys.executable)
    assert "vllm" in options_of(parse(words)).arms and "vllm" not in default_arms("cpu", ["vllm"])
