"""The published comparison: the protocol's arithmetic, what is quoted, what the comparison says of itself."""

import json

import pytest

from bench import published, reproduce
from bench.arms import ArmSpec
from bench.reproduce import PASSES, WARM_UP, later_ms, markdown, table
from bench.schema import Case, Row, read_rows
from core.errors import UserError
from export.synthetic import write_checkpoint
from tests.bench_options import run_options

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


def test_later_script_divides_nine_passes_by_ten():
    assert (WARM_UP, PASSES) == (2, 10)
    assert later_ms([1000.0, *[100.0] * 9]) == pytest.approx(90.0)


def test_table_has_both_protocols_and_nothing_of_other_machines():
    frame = table(rows_of([200.0] * PASSES, [100.0] * PASSES))
    assert list(frame.iloc[0]) == ["200.00", "100.00", "2.000x"]
    assert list(frame.iloc[1]) == ["180.00", "90.00", "2.000x"]
    assert frame.iloc[2, 2].startswith("2.000x [") and len(frame) == 3


def test_published_figures_are_quoted_as_they_were_printed():
    frame = published.table()
    assert list(frame.iloc[0])[1:] == ["1012.11", "425.36", "2.379x"]
    assert list(frame.iloc[1])[1:] == ["-", "669.8", "-"]
    pair, later = published.ANCHORS
    assert float(pair.torch_ms) / float(pair.paddle_ms) == pytest.approx(2.379, abs=5e-4)
    assert float(later.paddle_ms) / float(pair.paddle_ms) == pytest.approx(1.6, abs=0.05)   # as the remark says
    assert all("A100" in setup for setup in frame["set-up"])
    assert all("Known:" in line and "Not known:" in line and "quoted" in line for line in published.remarks())


def test_failed_gate_gives_no_ratio():
    rows = rows_of([200.0] * PASSES, [])
    assert list(table(rows).iloc[0]) == ["200.00", "-", "-"]
    assert "paddle-fused, published: failed: gate failed: x" in markdown(rows)


def test_source_and_flaws_are_named():
    text = markdown(rows_of([200.0] * PASSES, [100.0] * PASSES))
    for part in ("PaddleMIX", "A100", "float16", "quoted", "divides by ten",
                  "1125 and 473 ms", "KV caches", "in every pass", "669.8"):
        assert part in text


def options_for(checkpoint, tmp_path, **changes):
    return run_options(**{"checkpoint": checkpoint, "out": str(tmp_path / "results"), "new_tokens": 4, "rounds": 2,
                          "warmup": 0, "exported_fused": checkpoint, **changes})


def test_missing_export_is_found_before_anything_starts(tmp_path):
    with pytest.raises(UserError, match="make export"):
        reproduce.reproduce(options_for(tmp_path, tmp_path, exported_fused="/no/such"), ["python"])
    assert not (tmp_path / "results").exists()


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint, and fake arms in the place of the two."""
    specs = {name: ArmSpec(name, "torch", "tests.bench_fake_arm:FakeArm", "checkpoint", {"name": name})
             for name in reproduce.PAIR}
    monkeypatch.setattr(reproduce, "ARMS", specs)
    run = reproduce.run
    monkeypatch.setattr(reproduce, "run", lambda options, argv: run(options, argv, specs=specs))
    return write_checkpoint("tiny", tmp_path / "tiny")


def test_interrupted_reproduction_keeps_what_it_has(checkpoint, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(reproduce, "_passes", interrupted)
    _, rows, text = reproduce.reproduce(options_for(checkpoint, tmp_path), ["python"])
    assert {row.status for row in rows if row.stage == "published"} == {"skipped"}
    assert all(row.samples for row in rows if row.stage == "end_to_end") and "interrupted before" in text


def test_both_protocols_run(checkpoint, tmp_path):
    options = options_for(checkpoint, tmp_path)
    folder, rows, text = reproduce.reproduce(options, ["python", "-m", "bench", "reproduce"])
    assert read_rows(folder / reproduce.FILE) == rows
    counted = {row.arm: len(row.samples) for row in rows if row.stage == "published"}
    assert counted == dict.fromkeys(reproduce.PAIR, PASSES)
    assert (folder / "reproduce.md").read_text() == text
    assert sorted(path.name for path in folder.iterdir()) == ["reproduce.jsonl", "reproduce.md"]
    assert json.loads((folder / reproduce.FILE).read_text().splitlines()[0])["provenance"]["during"]["looks"] >= 2
