"""Speed-ups against arms that the host paces are shown with their spread over the stored runs of the card and case."""

from dataclasses import replace

from bench.history import append
from bench.hosts import spreads
from bench.schema import Case, Row

CASE = Case("tiny", "float16", "gpu", 1, 290, 8)
CONDITIONS = {"cpu": "A CPU", "cores": 2, "threads": 2, "versions": {"device_name": "A Card"}, "git": {"sha": "a" * 40},
              "checkpoint": {"hash": "x", "synthetic": True}}


def run(day, case=CASE, **end_to_end):
    conditions = {**CONDITIONS, "time": f"2026-01-0{day}T00:00:00+00:00"}
    return [Row(arm.replace("_", "-"), "end_to_end", "ok", "", [ms], case, conditions)
            for arm, ms in end_to_end.items()]


def test_least_and_largest_over_runs(tmp_path):
    runs = [run(1, torch_eager=800.0, torch_compile=200.0, paddle_fused=100.0),
            run(2, torch_eager=500.0, paddle_fused=100.0), run(3, torch_eager=900.0),
            run(4, replace(CASE, batch=2), torch_eager=100.0, paddle_fused=100.0)]
    for rows in runs:
        append(tmp_path, rows)
    found = spreads(tmp_path, runs[0])
    assert (found["paddle-fused", "torch-eager"].low, found["paddle-fused", "torch-eager"].high) == (5.0, 8.0)
    assert str(found["paddle-fused", "torch-eager"]).startswith("5.00..8.00x in 2 stored runs")
    assert str(found["torch-compile", "torch-eager"]).startswith("4.00..4.00x in 1 stored run")
    assert {baseline for _, baseline in found} == {"torch-eager"}


def test_none_without_a_history_or_on_a_cpu(tmp_path):
    rows = run(1, torch_eager=800.0, paddle_fused=100.0)
    assert spreads(tmp_path, rows) == {}
    cpu = run(1, replace(CASE, device="cpu"), torch_eager=800.0, paddle_fused=100.0)
    append(tmp_path, cpu)
    assert spreads(tmp_path, cpu) == {}
