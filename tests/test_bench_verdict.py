"""The rules of the verdicts, one by one, on simulated launches."""

from dataclasses import replace

import numpy as np
import pytest

from bench.schema import Row
from bench.verdict import Verdict, against_stored, best_times, paired, quiet_rounds, slower, verdict_table, why_invalid
from tests.bench_rows import CASE, simulated

ARM = "paddle-fused"


def verdicts(before, now, known=None):
    return {verdict.stage: verdict for verdict in against_stored(ARM, before, now, known)}


def test_same_code_is_the_same():
    found = verdicts(simulated(1), simulated(2))
    assert {verdict.verdict for verdict in found.values()} == {"same"}
    assert all(verdict.low < 0 < verdict.high and verdict.floor > 0 for verdict in found.values())
    assert found["decode"].launches == 20 and found["decode"].rounds == 160


def test_slower_stage_is_found_and_no_other():
    found = verdicts(simulated(1), simulated(2, slower={"token": 1.05}))
    assert slower(found.values()) == ["decode"] and found["decode"].low < 0.05 < found["decode"].high
    assert slower(verdicts(simulated(1, slower={"token": 1.05}), simulated(2)).values()) == []


def test_small_change_is_not_called_however_sure():
    found = verdicts(simulated(1, between=0.001, within=0.001),
                     simulated(2, between=0.001, within=0.001, slower={"token": 1.015}))
    assert found["decode"].low > 0 and found["decode"].verdict == "same"


def test_launches_that_differ_make_it_uncertain():
    """Their rounds alone would call it: as many rounds, each launch with a speed of its own."""
    found = verdicts(*(simulated(seed, launches=5, rounds=40, between=0.05) for seed in (1, 2)))
    assert found["decode"].verdict == "ambiguous" and found["decode"].high - found["decode"].low > 0.1


def test_rounds_on_a_slowed_device_do_not_count():
    slowed = np.where(np.arange(8) < 4, 1.4, 1.0) * np.ones((20, 1))
    now = simulated(2, device=slowed)
    assert [len(rounds) for rounds, _ in quiet_rounds(now, ARM, best_times(simulated(1)), 0.12, True)] == [4] * 20
    assert verdicts(simulated(1), now)["decode"].verdict == "same"


def test_rounds_beside_other_programs_do_not_count():
    busy = np.where(np.arange(20) < 10, 0.9, 0.0)[:, None] * np.ones(8)
    assert verdicts(simulated(1), simulated(2, others=busy))["decode"].launches == 10


def test_device_that_became_a_little_slower_is_no_regression():
    found = verdicts(simulated(1, device=np.random.default_rng(0).uniform(1, 1.1, (20, 8))), simulated(2, device=1.06))
    assert slower(found.values()) == []


def test_device_that_is_another_one_is_not_compared():
    found = verdicts(simulated(1), simulated(2, device=1.3, slower={"token": 0.8}))
    assert {verdict.verdict for verdict in found.values()} == {"insufficient"}
    assert "reading took 2.86 ms at best, 2.2 then" in found["decode"].reason


def test_accepted_step_is_no_regression_again():
    before, now = simulated(1), simulated(2, slower={"token": 1.3})
    assert slower(verdicts(before, now).values()) == ["decode", "end_to_end"]
    assert slower(verdicts(before, now, {"decode": 0.3, "end_to_end": 0.066}).values()) == []
    assert slower(verdicts(before, simulated(2, slower={"token": 1.5}), {"decode": 0.3}).values())[0] == "decode"


def beside(seed, share=1.0, **options):
    """Rows of two arms in the same rounds, on a machine whose speed changes."""
    drift = np.linspace(1, 2, 8) * np.linspace(1, 1.5, 6)[:, None]
    return [row for arm, factor in (("base", 1.0), ("head", share)) for row in simulated(
        hash((seed, arm)) % 1000, launches=6, arm=arm, slower={"token": factor}, device=drift, **options)
        if row.arm == arm]


def test_arms_in_the_same_rounds_share_what_the_machine_does():
    found = {verdict.stage: verdict for verdict in paired("base", "head", beside(1))}
    assert {verdict.verdict for verdict in found.values()} == {"same"}
    found = paired("base", "head", beside(2, 1.06))
    assert slower(found) == ["decode"] and found[0].launches == 6 and found[0].rounds == 48


def test_too_few_launches_are_insufficient():
    few = against_stored(ARM, simulated(1), simulated(2, launches=3))
    assert {verdict.verdict for verdict in few} == {"insufficient"}
    rows = [replace(row, samples=row.samples[:sum(row.launches[:3])], launches=row.launches[:3]) for row in beside(1)]
    assert {verdict.verdict for verdict in paired("base", "head", rows)} == {"insufficient"}


def test_one_new_token_has_no_decode():
    case = replace(CASE, new_tokens=1)

    def rows(seed):
        return [replace(row, samples=[], launches=[]) if row.stage in ("least_step", "token", "decode") else row
                for row in simulated(seed, case=case)]
    assert "decode" not in verdicts(rows(1), rows(2)) and verdicts(rows(1), rows(2))["vision"].verdict == "same"


def row(**changes):
    return replace(Row("head", "end_to_end", "ok", "", [1.0], CASE, {"cores": 2}), **changes)


def card(median, most, **changes):
    gpu = {"sm_mhz": {"min": 345, "median": median, "max": most}, "events": {"sw_power_cap": 0.07}, **changes}
    return {"case": replace(CASE, device="gpu"), "provenance": {"cores": 2, "during": {
        "others_cores": "not available", "gpu": gpu}}}


@pytest.mark.parametrize("changes, reason", [
    ({}, ""),
    ({"status": "failed", "reason": "gate failed: logits differ"}, "gate failed"),
    ({"provenance": {"cores": 2, "during": {"others_cores": {"median": 0.9}, "gpu": "not available"}}}, "idle machine"),
    ({"provenance": {"cores": 2, "during": {"others_cores": {"median": 0.1}, "gpu": "not available"}}}, ""),
    (card(1980, 1980), ""),   # a card that reports its power cap in some looks and loses no clocks
    (card(1755, 1980), "lost clocks: 1755 of 1980 MHz in half of the looks (sw_power_cap)"),
    (card("not available: Not Supported", 0, sm_mhz="not available: Not Supported"), ""),
])
def test_conditions_that_forbid_a_verdict(changes, reason):
    found = why_invalid([row(**changes)])
    assert reason in found and bool(found) == bool(reason)


def test_card_that_runs_slower_than_for_the_baseline():
    def rows(seed, mhz):
        during = {"others_cores": {"median": 0.0}, "gpu": {"sm_mhz": {"min": mhz, "median": mhz, "max": mhz}}}
        return simulated(seed, case=replace(CASE, device="gpu"), conditions={"during": during}, between=0.001,
                         within=0.002)
    assert verdicts(rows(1, 1980), rows(2, 1965))["decode"].verdict == "same"
    invalid = verdicts(rows(1, 1980), rows(2, 1400))["decode"]
    assert invalid.verdict == "invalid" and "at 1400 MHz, at 1980 MHz for the baseline" in invalid.reason


def test_table_shows_what_was_found():
    text = verdict_table([Verdict("vision", "slower", 0.05, 0.03, 0.07, 0.01, 6, 100),
                          Verdict("decode", "insufficient", reason="fewer than 4 launches")])
    for part in ("slower", "+5.0 %", "+3.0 % .. +7.0 %", "+1.0 %", "| 6 |", "100", "fewer than 4 launches"):
        assert part in text.replace("  ", " ").replace("  ", " ").replace("  ", " ")
