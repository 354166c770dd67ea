"""Damaged histories and rows: read, or refused in one line; a line that is added to one is whole."""

import dataclasses
import json

import pytest
from fuzzing import changed, damaged, fuzz, survives
from hypothesis import example, given

from bench.history import FIELDS, FILE, append, history_markdown, read
from bench.schema import Case, Row, read_rows

CONDITIONS = {"cpu": "A CPU", "cores": 2, "time": "2026-01-01T00:00:00+00:00", "versions": {},
              "git": {"sha": "0" * 40, "dirty": False}}
ROW = Row("torch-eager", "end_to_end", "ok", "", [5.0, 6.0], Case("tiny", "float32", "cpu", 1, 290, 8), CONDITIONS)
LINE = dict(zip(FIELDS, (2, 2, "2026-01-01", "0" * 40, False, "a-cpu", "01234567", "tiny", "torch-eager", "end_to_end",
                         "ms", 5.0, 3), strict=True))
TWO_LINES = (json.dumps(LINE) + "\n").encode() * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzz(200)
@given(damaged(TWO_LINES))
def test_damaged_history(folder, raw):
    (folder / FILE).write_bytes(raw)
    found = survives(read, folder)
    if found is not None:
        history_markdown(*found)
    append(folder, [ROW])
    assert (folder / FILE).read_bytes().startswith(raw)
    assert json.loads((folder / FILE).read_bytes().split(b"\n")[-2])["median"] == 5.5


@fuzz(200)
@given(changed(LINE))
def test_odd_lines_of_a_history(folder, value):
    (folder / FILE).write_text(json.dumps(value) + "\n")
    found = survives(read, folder)
    if found is not None:
        history_markdown(*found)


@fuzz(200)
@given(changed(dataclasses.asdict(ROW)))
@example({**dataclasses.asdict(ROW), "benchmark": []})
def test_odd_rows(folder, value):
    (folder / "rows.jsonl").write_text(json.dumps(value) + "\n")
    survives(read_rows, folder / "rows.jsonl")
