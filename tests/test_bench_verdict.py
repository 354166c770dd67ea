"""The rules of the verdicts, one by one."""

from dataclasses import replace

import numpy as np
import pytest

from bench.schema import Case, Row
from bench.verdict import (
    Verdict,
    against_stored,
    confirm,
    decide,
    decided,
    noise_floor,
    paired,
    slower,
    verdict_table,
    why_invalid,
)

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)


@pytest.mark.parametrize("change, low, high, floor, verdict", [
    (0.05, 0.03, 0.07, 0.0, "slower"),
    (-0.05, -0.07, -0.03, 0.0, "faster"),
    (0.015, 0.01, 0.02, 0.0, "same"),          # below 2 %, however sure
    (0.05, 0.03, 0.07, 0.06, "ambiguous"),     # within the noise floor, and 5 % is not excluded
    (0.03, 0.02, 0.04, 0.06, "same"),
    (0.03, -0.01, 0.07, 0.0, "ambiguous"),
    (0.0, -0.03, 0.03, 0.0, "same"),
])
def test_rules(change, low, high, floor, verdict):
    assert decide(change, low, high, floor) == verdict


def noisy(seed, median, rounds=100, spread=0.05):
    return (median * np.random.default_rng(seed).lognormal(0, spread, rounds)).tolist()


def test_paired_rounds_cancel_what_they_share():
    drift = np.linspace(1, 3, 60)
    base, head = (drift * noisy(seed, 100, 60, 0.01) for seed in (1, 2))
    found = paired("vision", base.tolist(), (1.05 * head).tolist())
    assert found.verdict == "slower" and found.low < 0.05 < found.high and found.pairs == 60
    assert found.p > 0.1   # without the pairing the drift hides it


def test_second_worker_of_the_base_gives_the_floor():
    base, again = noisy(1, 100), noisy(2, 110)
    assert noise_floor(base, again) == pytest.approx(0.1, abs=0.02)
    assert paired("vision", base, noisy(3, 112), again).verdict != "slower"   # 6 % above their mean, floor 10 %


def test_too_few_rounds_are_insufficient():
    assert paired("vision", [1.0] * 7, [2.0] * 7).verdict == "insufficient"
    assert paired("vision", [], [2.0] * 20).verdict == "insufficient"
    assert against_stored("vision", ([1.0] * 20, [1.0] * 20), ([2.0] * 3, [1.0] * 3)).verdict == "insufficient"


def test_round_that_was_interrupted_is_left_out():
    assert paired("vision", noisy(1, 100, 41), noisy(2, 100, 40)).pairs == 40


def test_ruler_takes_out_what_changed_the_machine():
    before = noisy(1, 100), noisy(2, 50)
    slow_machine = noisy(3, 130), noisy(4, 65)
    assert against_stored("vision", before, slow_machine).verdict == "same"
    regression = noisy(5, 137), noisy(6, 65)
    assert against_stored("vision", before, regression).verdict == "slower"


def test_regression_needs_a_second_run_that_agrees():
    worse, same = Verdict("vision", "slower", 0.05), Verdict("vision", "same", 0.0)
    assert slower(confirm([worse], [worse])) == ["vision"]
    assert confirm([worse], [same])[0].verdict == "ambiguous"
    assert confirm([same], [worse]) == [same]


def row(**changes):
    conditions = {"cores": 2, "rounds": {"interrupted": False}}
    return replace(Row("head", "end_to_end", "ok", "", [1.0], CASE, conditions), **changes)


def test_no_re_run_without_a_slower_stage_or_after_an_interruption():
    runs = []

    def measure(**rounds):
        runs.append([row(provenance={"cores": 2, "rounds": {"interrupted": False, **rounds}})])
        return runs[-1]

    decided(measure, lambda rows: [Verdict("vision", "same")])
    assert len(runs) == 1
    verdicts, _ = decided(lambda: measure(interrupted=True), lambda rows: [Verdict("vision", "slower", 0.1)])
    assert len(runs) == 2 and verdicts[0].verdict == "ambiguous" and "not made" in verdicts[0].reason
    verdicts, made = decided(measure, lambda rows: [Verdict("vision", "slower", 0.1)])
    assert len(made) == 2 and slower(verdicts) == ["vision"]


@pytest.mark.parametrize("changes, reason", [
    ({}, ""),
    ({"status": "failed", "reason": "gate failed: logits differ"}, "gate failed"),
    ({"provenance": {"cores": 2, "during": {"others_cores": {"median": 0.9}, "gpu": "not available"}}}, "idle machine"),
    ({"provenance": {"cores": 2, "during": {"others_cores": {"median": 0.1}, "gpu": "not available"}}}, ""),
    ({"case": replace(CASE, device="gpu"), "provenance": {"cores": 2, "during": {
        "others_cores": "not available", "gpu": {"throttled": True, "events": {"sw_power_cap": 0.5}}}}},
     "sw_power_cap"),
])
def test_conditions_that_forbid_a_verdict(changes, reason):
    found = why_invalid([row(**changes)])
    assert reason in found and bool(found) == bool(reason)


def test_table_shows_what_was_found():
    text = verdict_table([Verdict("vision", "slower", 0.05, 0.03, 0.07, 0.01, 1e-4, 100),
                          Verdict("decode", "insufficient", reason="fewer than 8 rounds")])
    for part in ("slower", "+5.0 %", "+3.0 % .. +7.0 %", "+1.0 %", "0.0001", "fewer than 8 rounds"):
        assert part in text
