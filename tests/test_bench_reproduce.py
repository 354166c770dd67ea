"""The published comparison: the protocol's arithmetic, what is quoted, what the comparison says of itself."""

import json
import sys

import pytest

from bench import reproduce
from bench.arms import ArmSpec
from bench.reproduce import DIVISOR, PASSES, PUBLISHED, markdown, published_ms, table
from bench.run import Options
from bench.schema import Case, Row, read_rows
from export.synthetic import write_checkpoint
from infer.image import default_image

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)
CONDITIONS = {"argv": ["python"], "platform": "Linux", "cpu": "A CPU", "cores": 2, "threads": 2, "load_average": 0.0,
              "versions": {}, "checkpoint": {"hash": "x", "synthetic": True},
              "rounds": {"asked": 2, "done": 2, "warmup": 0, "interrupted": False}}


def rows_of(eager, fused):
    made = []
    for arm, ms in (("torch-eager", eager), ("paddle-fused", fused)):
        status, reason = ("ok", "") if ms else ("failed", "gate failed: x")
        made += [Row(arm, stage, status, reason, ms, CASE, CONDITIONS) for stage in ("end_to_end", "published")]
    return made


def test_nine_passes_are_divided_by_ten():
    assert (PASSES, DIVISOR) == (9, 10)
    assert published_ms([100.0] * PASSES) == pytest.approx(90.0)


def test_table_sets_both_protocols_beside_the_published_figures():
    frame = table(rows_of([200.0] * PASSES, [100.0] * PASSES))
    assert list(frame.iloc[0]) == list(PUBLISHED) == ["1012.11", "425.36", "2.379x"]
    assert float(PUBLISHED[0]) / float(PUBLISHED[1]) == pytest.approx(2.379, abs=5e-4)
    assert list(frame.iloc[1]) == ["180.00", "90.00", "2.000x"]
    assert list(frame.iloc[2]) == ["200.00", "100.00", "2.000x"]
    assert frame.iloc[3, 2].startswith("2.000x [")


def test_failed_gate_gives_no_ratio():
    rows = rows_of([200.0] * PASSES, [])
    assert list(table(rows).iloc[1]) == ["180.00", "-", "-"]
    assert "paddle-fused, published: failed: gate failed: x" in markdown(rows)


def test_source_and_flaws_are_named():
    text = markdown(rows_of([200.0] * PASSES, [100.0] * PASSES))
    for part in ("PaddleMIX", "A100", "float16", "quoted", "divided by ten", "1125 and 473 ms", "KV caches"):
        assert part in text


def test_both_protocols_run(tmp_path, monkeypatch):
    checkpoint = write_checkpoint("tiny", tmp_path / "tiny")
    specs = {name: ArmSpec(name, "torch", "tests.bench_fake_arm:FakeArm", "checkpoint",
                           {"name": name, "diary": str(tmp_path / "diary")}) for name in reproduce.PAIR}
    monkeypatch.setattr(reproduce, "ARMS", specs)
    run = reproduce.run
    monkeypatch.setattr(reproduce, "run", lambda options, argv: run(options, argv, specs=specs))
    options = Options(str(checkpoint), str(default_image()), "What is it?", str(tmp_path / "results"), new_tokens=4,
                      rounds=2, warmup=0, python={"torch": sys.executable})
    folder, rows, text = reproduce.reproduce(options, ["python", "-m", "bench", "reproduce"])
    assert read_rows(folder / reproduce.FILE) == rows
    counted = {row.arm: len(row.samples) for row in rows if row.stage == "published"}
    assert counted == dict.fromkeys(reproduce.PAIR, PASSES)
    assert (folder / "reproduce.md").read_text() == text
    assert sorted(path.name for path in folder.iterdir()) == ["reproduce.jsonl", "reproduce.md"]
    assert json.loads((folder / reproduce.FILE).read_text().splitlines()[0])["provenance"]["during"]["looks"] >= 2
