"""The rule of the verdicts on launches that were really made: what it says of the same code, and of a planted slowdown.

Each comparison takes a baseline and a check from one recording (tests/bench_launches.py): at random, or as they were
made in turn.
"""

import pytest

from tests.bench_launches import CALM, H200, NOISY, drawn, in_time, launches_of, pairs, recorded, shares_of

BEFORE, NOW = 60, 23      # launches of a baseline and of a check
LAUNCHES = BEFORE + NOW
PAIRS, PLANTED = 1000, 200
SHARE = 0.05              # planted into decode


def test_same_code_is_seldom_called_anything_else():
    rows = recorded(CALM)
    assert launches_of(rows) == LAUNCHES
    for orders in (drawn(LAUNCHES, PAIRS), in_time(LAUNCHES)):
        called, undecided = shares_of([each[0.0] for each in pairs(rows, orders, BEFORE, NOW)])
        assert called <= 0.05 and undecided <= 0.2, (called, undecided)


def test_planted_slowdown_is_found_in_its_stage():
    found = [each[SHARE] for each in pairs(recorded(CALM), drawn(LAUNCHES, PLANTED), BEFORE, NOW, (SHARE,))]
    right = [each["decode"] == "slower" for each in found]
    others = [stage for each in found for stage in ("preprocess", "vision", "prefill") if each[stage] == "slower"]
    assert sum(right) >= 0.95 * PLANTED and len(others) <= 0.05 * PLANTED, (sum(right), others)


def test_noise_makes_it_uncertain_not_wrong():
    """Half of the launches count: what the rule cannot see it does not call."""
    rows = recorded(NOISY)
    orders = drawn(launches_of(rows), PLANTED)
    called, _ = shares_of([each[0.0] for each in pairs(rows, orders, launches_of(rows) - NOW, NOW)])
    assert called <= 0.05, called


@pytest.mark.parametrize("share", [-SHARE, SHARE])
def test_other_direction(share):
    found = [each[share]["decode"] for each in pairs(recorded(CALM), drawn(LAUNCHES, 20), BEFORE, NOW, (share,))]
    assert ("faster" if share > 0 else "slower") not in found


def test_two_percent_in_decode_are_found_on_a_gpu():
    """Of ten launches, six and four: decode is told, stages that vary by more are not called."""
    for each in pairs(recorded(H200), drawn(10, 30), 6, 4, (0.0, 0.02)):
        assert not {"slower", "faster"} & set(each[0.0].values())
        assert each[0.02]["decode"] == "slower"
