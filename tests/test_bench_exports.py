"""Exports against the published descriptions of their formats."""

import json
import numbers

import pytest

from bench.exports import to_action_benchmark, to_bencher, to_frame
from bench.schema import Case, Row

CASE = Case("small", "float32", "cpu", 1, 316, 32)
CONDITIONS = {"cpu": "A CPU", "threads": 2, "repro": "git checkout abc && python -m bench run", "time": "2026-01-01",
              "git": {"sha": "abc", "dirty": False}, "checkpoint": {"hash": "x", "synthetic": True}}


def check_action_benchmark(entries):
    """README of github-action-benchmark: an array of name, unit, value, and optional range and extra texts."""
    assert isinstance(entries, list)
    for entry in entries:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"} and {"name", "unit", "value"} <= set(entry)
        assert isinstance(entry["value"], numbers.Real) and not isinstance(entry["value"], bool)
        assert all(isinstance(entry[name], str) for name in entry if name != "value")


def check_bencher(value):
    """https://bencher.dev/bmf.json, and the lengths that the reference page gives: names 1024, measures 64."""
    assert isinstance(value, dict)
    for benchmark, measures in value.items():
        assert 0 < len(benchmark) <= 1024 and isinstance(measures, dict)
        for measure, metric in measures.items():
            assert 0 < len(measure) <= 64 and measure == measure.lower() and "_" not in measure
            assert "value" in metric and set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(number, numbers.Real) and not isinstance(number, bool)
                       for number in metric.values())
            assert metric.get("lower_value", metric["value"]) <= metric["value"] <= metric.get(
                "upper_value", metric["value"])


@pytest.fixture
def rows():
    return [Row("torch-eager", "end_to_end", "ok", "", [4.0, 2.0, 3.0], CASE, CONDITIONS),
            Row("torch-eager", "peak_memory", "ok", "", [700.5], CASE, CONDITIONS, "resident"),
            Row("paddle-fused", "end_to_end", "failed", "gate failed: logits differ", [1.0], CASE, CONDITIONS)]


def strict(value):
    return json.loads(json.dumps(value, allow_nan=False))


def test_action_benchmark(rows):
    entries = strict(to_action_benchmark(rows))
    check_action_benchmark(entries)
    assert entries[0]["name"] == "small-float32-cpu-b1-p316-n32/torch-eager/end_to_end"
    assert entries[0]["value"] == 3 and entries[0]["unit"] == "ms" and entries[0]["range"] == "2 to 3.8"
    assert "git checkout abc" in entries[0]["extra"]
    assert len({entry["name"] for entry in entries}) == len(entries) == 2


def test_bencher(rows):
    made = strict(to_bencher(rows))
    check_bencher(made)
    assert made == {"small-float32-cpu-b1-p316-n32/torch-eager": {
        "end-to-end-ms": {"value": 3, "lower_value": 2, "upper_value": pytest.approx(3.8)},
        "peak-memory-mib": {"value": 700.5, "lower_value": 700.5, "upper_value": 700.5}}}


@pytest.mark.parametrize("bad", [{"a": {"m": {"lower_value": 1}}}, {"a": {"m": {"value": "1"}}}, {"a": {"M_s": {}}}])
def test_checker_refuses(bad):
    with pytest.raises(AssertionError):
        check_bencher(bad)


def test_failed_gate_is_not_exported(rows):
    assert not any("paddle-fused" in entry["name"] for entry in to_action_benchmark(rows))
    assert not any("paddle-fused" in name for name in to_bencher(rows))


def test_frame_has_every_row(rows):
    frame = to_frame(rows)
    assert list(frame["arm"]) == ["torch-eager", "torch-eager", "paddle-fused"]
    assert frame.loc[0, "median"] == 3 and frame.loc[2, "reason"].startswith("gate failed")
