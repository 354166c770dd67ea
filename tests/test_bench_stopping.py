"""When warm-up and rounds end, and what is said about it."""

import numpy as np
import pytest

from bench.contest import Entry
from bench.stopping import PLANNED_AFTER, ROUNDS_AT_LEAST, EqualRounds, Stopping, is_warm


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
    assert not stopping.enough(ROUNDS_AT_LEAST - 1, [])   # however long they took
    assert not stopping.enough(ROUNDS_AT_LEAST, []) and stopping.enough(ROUNDS_AT_LEAST + 1, [])
    assert stopping.stopped == "budget"


def test_most_rounds():
    stopping = Stopping(rounds=3)
    stopping.start()
    assert not stopping.enough(2, []) and stopping.enough(3, [])
    assert stopping.stopped == "rounds"


class Clock:
    """A clock that `pass_s` seconds go by on for each round."""

    def __init__(self, pass_s):
        self.pass_s, self.now = pass_s, 0.0

    def rounds(self, stopping):
        """How many rounds one arm makes."""
        stopping.start()
        done = 0
        while not stopping.enough(done, []):
            self.now += self.pass_s
            done += 1
        return done


def equal_rounds(pass_s, **options):
    clock = Clock(pass_s)
    return clock, EqualRounds(clock=lambda: clock.now, **{"rounds": 200, "budget": 20, **options})


def test_the_first_arm_plans_the_rounds_of_all():
    clock, stopping = equal_rounds(0.5)
    assert clock.rounds(stopping) == 40 and stopping.stopped == "planned"
    clock.pass_s = 3.0   # an arm that is slower makes no fewer, one that is faster no more
    assert clock.rounds(stopping) == 40
    clock.pass_s = 0.01
    assert clock.rounds(stopping) == 40


def test_a_budget_leaves_ten_rounds_and_a_deadline_what_fits():
    clock, stopping = equal_rounds(5.0)
    assert clock.rounds(stopping) == ROUNDS_AT_LEAST
    clock, stopping = equal_rounds(5.0, left=lambda: 20.0)
    assert clock.rounds(stopping) == PLANNED_AFTER + 4
    clock, stopping = equal_rounds(5.0, left=lambda: -20.0)
    assert clock.rounds(stopping) == PLANNED_AFTER + 1


def test_no_more_rounds_than_asked_for():
    clock, stopping = equal_rounds(0.5, rounds=3)
    assert clock.rounds(stopping) == 3 and stopping.stopped == "rounds"
