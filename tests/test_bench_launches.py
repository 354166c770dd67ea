"""The rule of the verdicts on launches that were really made: what it says of the same code, and of a planted slowdown.

Each comparison draws a baseline and a check from one recording (tests/bench_launches.py), or takes them from two
recordings made at different times.
"""

import pytest

from tests.bench_launches import ARM, RECORDED, chosen, launches_of, pairs, planted, recorded, shares_of

BEFORE, NOW = 36, 20      # launches of a baseline and of a check, as the default budget of preset small leaves them
PAIRS = 1000
SHARE = 0.05              # planted into decode


@pytest.fixture(scope="module")
def found():
    """Verdicts of PAIRS comparisons, without and with the planted slowdown."""
    return list(pairs(recorded(RECORDED[0]), PAIRS, BEFORE, NOW, (0.0, SHARE)))


def test_recording_is_large_enough():
    assert launches_of(recorded(RECORDED[0])) >= max(60, BEFORE + NOW)


def test_same_code_is_seldom_called_slower_or_faster(found):
    called, undecided = shares_of([each[0.0] for each in found])
    assert called <= 0.05 and undecided <= 0.2, (called, undecided)


def test_planted_slowdown_is_found_in_its_stage(found):
    decode = [each[SHARE]["decode"] for each in found]
    others = sum("slower" in (each[SHARE]["preprocess"], each[SHARE]["vision"], each[SHARE]["prefill"]) for each in found)
    assert decode.count("slower") >= 0.95 * PAIRS and others <= 0.05 * PAIRS, (decode.count("slower"), others)
