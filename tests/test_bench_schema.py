"""Rows: what is written is what is read; other versions and damaged files are refused."""

import json
from pathlib import Path

import pytest

from bench.conditions import Gpu
from bench.provenance import collect
from bench.schema import SCHEMA, STAGES, Case, Row, read_rows
from core.errors import UserError

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)


def make(**changes):
    return Row(**{"arm": "torch-sdpa", "stage": "vision", "status": "ok", "reason": "", "samples": [3.25, 1 / 3],
                  "case": CASE, "provenance": {"threads": 2}, **changes})


@pytest.mark.parametrize("row", [make(), make(stage="peak_memory", counted="resident memory", samples=[12.5]),
                                 make(status="oom", reason="out of memory", samples=[])])
def test_round_trip(row):
    assert Row.from_dict(json.loads(row.to_json())) == row


def test_unit_follows_the_stage():
    assert {stage: make(stage=stage).unit for stage in STAGES}["peak_memory"] == "MiB"
    assert make().unit == "ms"


@pytest.mark.parametrize("changes", [{"stage": "lunch"}, {"status": "fine"}, {"reason": "but it is ok"},
                                     {"status": "failed"}])
def test_impossible_rows_are_refused(changes):
    with pytest.raises(ValueError):
        make(**changes)


def test_case_names_its_folder():
    assert CASE.slug == "tiny-float32-cpu-b1-p290-n8"


def test_read_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [make(), make(stage="prefill")]
    path.write_text("".join(row.to_json() + "\n" for row in rows))
    assert read_rows(path) == rows


@pytest.mark.parametrize("text, message", [
    ("", "no rows"), ("{", "line 1"), ("[1]\n", "line 1"), ('{"schema": %d}\n' % SCHEMA, "line 1"),
    (json.dumps({**json.loads(make().to_json()), "schema": SCHEMA + 1}), "schema"),
])
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_rows(path)


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "=======", ">>>>>>> a branch", '{"arm": "torch'])
def test_a_damaged_line_names_where_a_whole_file_comes_from(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(make().to_json() + "\n" + line + "\n")
    with pytest.raises(UserError, match=f"line 2 is .*: git checkout HEAD -- {path} brings .* else measure again"):
        read_rows(path)


def test_rows_of_schema_1_are_read():
    old = {name: value for name, value in json.loads(make().to_json()).items() if name != "benchmark"} | {"schema": 1}
    row = Row.from_dict(old)
    assert row.schema == 1 and row.benchmark == 1 and row.samples == make().samples


def test_file_that_mixes_benchmark_versions_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(make(benchmark=version).to_json() + "\n" for version in (1, 2)))
    with pytest.raises(UserError, match="versions 1 and 2"):
        read_rows(path)


def test_documentation_names_every_field():
    text = (Path(__file__).parents[1] / "docs" / "results-schema.md").read_text(encoding="utf-8")
    for field in [*json.loads(make().to_json()), *collect(["x"], 1, {"seed": 0}, __file__, Gpu())]:
        assert f"`{field}`" in text, field
