"""`bench sweep`: every batch and length of every engine in one table, lossy ones with their bits, nothing else."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench import engines
from bench.__main__ import options_of, parse
from bench.arms import ARMS
from bench.run import measured
from bench.schema import read_rows
from bench.sweep import COLUMNS
from export.synthetic import write_checkpoint

STAND_IN = Path(__file__).parent / "fake_torchao"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("engines") / "tiny")


def test_a_line_per_engine_batch_and_length(checkpoint, tmp_path, monkeypatch):
    eager = {arm: replace(ARMS[arm], options={**ARMS[arm].options, "backend": "eager"})
             for arm in ("torch-compile", "torch-compile-int8")}   # no code is generated
    monkeypatch.setattr(engines, "measured", lambda options, argv: measured(options, argv, specs=ARMS | eager))
    argv = ["sweep", "--checkpoint", str(checkpoint), "--arms", "torch-eager,torch-compile,torch-compile-int8",
            "--device", "cpu", "--new-tokens", "3", "--rounds", "2", "--case-rounds", "2", "--warmup", "0", "--batches",
            "1,2", "--lengths", "1,3", "--out", str(tmp_path / "results"), "--torch-env", f"PYTHONPATH={STAND_IN}"]
    folder, rows = engines.sweep(options_of(parse(argv)), ["bench", *argv])
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.csv", "sweep.jsonl"]
    assert read_rows(folder / "sweep.jsonl") == rows
    table = pd.read_csv(folder / "sweep.csv")
    assert tuple(table.columns) == COLUMNS and set(table["status"]) == {"ok"}
    assert [tuple(line) for line in table[["batch", "new_tokens"]].drop_duplicates().to_numpy()] == [
        (1, 1), (1, 3), (2, 3)]
    assert dict(zip(table["arm"], table["bits"], strict=True)) == {
        "torch-eager": 32, "torch-compile": 32, "torch-compile-int8": 8}
    assert set(table["n"]) == {2} and table.loc[table["new_tokens"] == 1, "tokens_per_s"].isna().all()
    decoded = table[table["new_tokens"] > 1]
    assert (decoded["tokens_per_s"] * decoded["step_ms"] / 1000 - decoded["batch"]).abs().max() < 1e-6
    lost = next(row.provenance["lossy"] for row in rows if row.arm == "torch-compile-int8")
    assert 0 < lost["kl"] < 0.01 and lost["steps"] > 0


def test_without_torchao_the_arm_says_how_to_get_it(checkpoint, tmp_path):
    if importlib.util.find_spec("torchao"):
        pytest.skip("torchao is installed here")
    argv = ["sweep", "--checkpoint", str(checkpoint), "--arms", "torch-compile-int8", "--device", "cpu", "--new-tokens",
            "2", "--rounds", "1", "--batches", "1", "--lengths", "2", "--out", str(tmp_path / "results")]
    _, rows = engines.sweep(options_of(parse(argv)), ["bench", *argv])
    assert {row.status for row in rows} == {"skipped"} and "pip install torchao==" in rows[0].reason


def test_engines_unless_they_are_named(monkeypatch):
    monkeypatch.delenv("VLLM_PYTHON", raising=False)
    words = ["sweep", "--checkpoint", "x", "--device"]
    assert options_of(parse([*words, "cpu"])).arms == ("torch-sdpa", "paddle-fused")
    gpu = [*words, "gpu", "--dtype", "float16"]
    assert options_of(parse(gpu)).arms == ("torch-compile", "paddle-fused", "paddle-fused-16bit")
    named = options_of(parse([*gpu, "--vllm-python", "python3"]))
    assert named.arms == engines.ENGINES["gpu"] and named.limits.sequential
    assert named.further.batches == (1, 2, 4, 8, 16, 32) and named.further.lengths[-1] == 256
