"""The figures that a run is known by: which arms stand there, against which they are set, how near is each limit."""

from dataclasses import replace

import pytest

from bench.headline import headline_frame, headline_rows, limit_ms, limits_frame, limits_ms
from bench.report import by_arm
from bench.schema import Case, Row
from ops import formats

CASE = Case("7b", "float16", "gpu", 1, 286, 11)
PACKED = formats.packed("float16")[0]
CEILINGS = {"read_bytes_per_s": 1e9, "vision_flop_per_s": 1e9, "prefill_flop_per_s": 1e9}
WORK = {"vision_flops": 3e6, "prefill_flops": 2e6, "decode_bytes": 4e6}


def arm_rows(arm, ms, status="ok", n=3, weights=None, **changes):
    """Rows of an arm whose end to end takes `ms` and a step a tenth of that."""
    times = {"vision": 6.0, "prefill": 4.0, "ttft": 12.0, "token": ms and ms / 10, "end_to_end": ms, **changes}
    conditions = {"cpu": "A CPU", "cores": 2, "threads": 2, "versions": {}, "ceilings": CEILINGS,
                  "work": WORK | ({"weights": weights, "decode_bytes": 3e6} if weights else {})}
    return [Row(arm, stage, status, "" if status == "ok" else "a reason", [time] * n if time else [], CASE, conditions)
            for stage, time in times.items()]


@pytest.fixture
def rows():
    return [*arm_rows("torch-eager", 900.0), *arm_rows("torch-sdpa", 800.0), *arm_rows("torch-compile", 100.0, n=2),
            *arm_rows("paddle-native", None, "skipped"), *arm_rows("paddle-fused", 50.0, weights=PACKED.name)]


def test_the_fastest_of_each_framework_and_number_of_bits(rows):
    frame = headline_frame(rows)
    assert list(frame.index) == ["torch-compile", "paddle-fused"]
    assert list(frame["bits of a weight"]) == ["16", str(PACKED.bits)] and list(frame["n"]) == ["2", "3"]
    assert {row.arm for row in headline_rows(rows)} == set(frame.index)
    both = [*rows, *arm_rows("paddle-stock", 60.0)]   # 16 bits of the same framework: beside, not in the place of 13
    assert list(headline_frame(both).index) == ["torch-compile", "paddle-fused", "paddle-stock"]


def test_all_are_set_against_the_fastest_torch_arm_of_all_bits(rows):
    frame = headline_frame(rows)
    assert list(frame["speed-up vs torch-compile"].str[:5]) == ["1.00x", "2.00x"]
    lossy = arm_rows("torch-eager", 10.0, weights=PACKED.name)   # faster, with fewer bits
    frame = headline_frame([*rows[5:], *lossy])
    assert list(frame.index) == ["torch-eager", "torch-compile", "paddle-fused"]
    assert "speed-up vs torch-compile" in frame
    assert not any(name.startswith("speed-up") for name in headline_frame(arm_rows("paddle-fused", 50.0)))


def test_what_failed_is_not_there(rows):
    failed = [Row(row.arm, row.stage, "failed", "gate failed: x", row.samples, row.case, row.provenance)
              if row.arm == "torch-compile" else row for row in rows]
    assert list(headline_frame(failed).index) == ["torch-sdpa", "paddle-fused"]


def test_a_language_model_alone_has_no_end_to_end(rows):
    alone = [row for row in arm_rows("an engine", 30.0, status="skipped", end_to_end=None, token=3.0)]
    frame = headline_frame([*rows, *alone])
    assert frame.loc["an engine", "end to end (ms)"] == "-" and frame.loc["an engine", "n"] == "3"
    assert frame.loc["an engine", "decode / token (ms)"].startswith("3.00")


def test_what_computes_something_else_is_not_there(rows):
    lossy = [replace(row, provenance={**row.provenance, "lossy": {"what": "x"}}) for row in arm_rows("an engine", 1.0)]
    assert "an engine" in headline_frame([*rows, *arm_rows("an engine", 1.0)]).index
    assert list(headline_frame([*rows, *lossy]).index) == ["torch-compile", "paddle-fused"]


def test_limits_are_bytes_and_operations_over_measured_rates(rows):
    fused = by_arm(rows)["paddle-fused"]
    assert limits_ms(fused) == pytest.approx({"vision": 3, "prefill": 2, "token": 3})
    assert limit_ms(fused) == pytest.approx(3 + 2 + 10 * 3)   # ten steps after the first token
    frame = limits_frame(rows)
    assert list(frame.loc["paddle-fused, decode / token"]) == ["0.00 GB of weights", "1 GB/s", "3.00", "5.00", "60 %"]
    assert list(frame.loc["torch-compile, vision"]) == ["0.00 TFLOP", "0 TFLOP/s", "3.00", "6.00", "50 %"]


def test_no_limit_without_all_of_its_parts(rows):
    stages = {stage: row for stage, row in by_arm(rows)["paddle-fused"].items() if stage != "vision"}
    assert limit_ms(stages) is None and set(limits_ms(stages)) == {"prefill", "token"}
