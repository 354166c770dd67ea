"""When warm-up and rounds end, and what is said about it."""

import numpy as np
import pytest

from bench.contest import Entry
from bench.stopping import ROUNDS_AT_LEAST, Stopping, is_warm


@pytest.mark.parametrize("passes, warm", [([], False), ([100.0], False), ([100.0, 90.0], False), ([100.0, 96.0], True),
                                          ([100.0, 120.0], True), ([100.0, 90.0, 80.0], False),
                                          ([100.0, 80.0, 79.0], True)])
def test_warm_when_it_gets_no_faster(passes, warm):
    assert is_warm(passes) == warm


def entry(spread, rounds):
    samples = np.random.default_rng(0).normal(100, spread, rounds).tolist()
    return Entry(name="arm", samples={"end_to_end": samples})


def test_narrow_medians_end_the_rounds():
    stopping = Stopping(rounds=100, budget=1000)
    stopping.start()
    assert not stopping.enough(ROUNDS_AT_LEAST - 1, [entry(0.1, ROUNDS_AT_LEAST - 1)])
    assert not stopping.enough(ROUNDS_AT_LEAST, [entry(0.1, ROUNDS_AT_LEAST), entry(30, ROUNDS_AT_LEAST)])
    assert stopping.enough(ROUNDS_AT_LEAST, [entry(0.1, ROUNDS_AT_LEAST)])
    assert stopping.stopped == "narrow"


def test_budget_ends_the_rounds():
    clock = iter([0.0, 5.0, 11.0])
    stopping = Stopping(rounds=100, budget=10, clock=lambda: next(clock))
    stopping.start()
    assert not stopping.enough(1, []) and stopping.enough(2, [])
    assert stopping.stopped == "budget"


def test_most_rounds():
    stopping = Stopping(rounds=3)
    stopping.start()
    assert not stopping.enough(2, []) and stopping.enough(3, [])
    assert stopping.stopped == "rounds"
