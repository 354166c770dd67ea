"""When the warm-up is over and when enough rounds are measured."""

import time

from bench.statistics import median_half_width

NARROW = 0.02          # half width of a 95 % interval over its centre
ROUNDS_AT_LEAST = 10   # that every arm of a table has, or the table is marked as incomplete
PLANNED_AFTER = 2      # rounds whose time says how long the others take
OUT_OF_TIME = "the time given by --deadline was over"   # reason of what was not begun
STABLE = 0.05          # a pass that beats the fastest before it by less is warm
# On a GPU work is recorded when the same memory comes up again, and two passes may take turns at the memory.
LEAST_PASSES = {"cpu": 2, "gpu": 4}


def is_warm(passes, device="cpu"):
    """Whether an arm's end-to-end times (ms, in order) have stopped getting faster: the last of LEAST_PASSES or more is
    not more than STABLE faster than the fastest one before it."""
    return len(passes) >= LEAST_PASSES[device] and passes[-1] > (1 - STABLE) * min(passes[:-1])


def medians_narrow(samples_of_arms):
    """Whether the interval of every arm's median is narrow: one list of end-to-end samples per arm."""
    return all(median_half_width(samples) <= NARROW for samples in samples_of_arms)


class Stopping:
    """Says after each round of all arms whether to stop and keeps why in `stopped` ("narrow", "budget" or "rounds").

    `budget` is in seconds of measuring (0: no limit); neither it nor medians that are known well end anything before
    `at_least` rounds; `rounds` are the most to make.
    """

    def __init__(self, rounds, budget=0, at_least=ROUNDS_AT_LEAST, clock=time.monotonic):
        self.rounds, self.budget, self.at_least, self.clock = rounds, budget, at_least, clock
        self.stopped, self.begin = None, None

    def start(self):
        self.stopped, self.begin = None, self.clock()

    def enough(self, done, entries):
        """Whether `done` rounds of the arms in `entries` are enough."""
        if done >= self.rounds:
            self.stopped = "rounds"
        elif self.budget and done >= self.at_least and self.clock() - self.begin >= self.budget:
            self.stopped = "budget"
        elif done >= self.at_least and entries and medians_narrow(
                [entry.samples.get("end_to_end", []) for entry in entries]):
            self.stopped = "narrow"
        return self.stopped is not None


class EqualRounds:
    """Stopping for arms that are measured one after the other: the first to get there plans, all make as many rounds.

    budget: seconds of rounds of one arm (0: no limit). left(): seconds until the deadline that one arm may spend on
    rounds, None without one. ROUNDS_AT_LEAST go beyond the budget, never beyond the deadline; `rounds` is then the
    number for every arm, in every launch.
    """

    def __init__(self, rounds, budget, left=lambda: None, clock=time.monotonic):
        self.asked = self.rounds = rounds
        self.budget, self.left, self.clock = budget, left, clock
        self.stopped, self.begin, self.planned = None, None, False

    def start(self):
        self.stopped, self.begin = None, self.clock()

    def enough(self, done, _entries):
        """Whether `done` rounds of an arm are enough."""
        if done == PLANNED_AFTER and not self.planned:
            round_s = (self.clock() - self.begin) / done
            fitting = max(ROUNDS_AT_LEAST, int(self.budget / round_s)) if self.budget else self.rounds
            left = self.left()
            if left is not None:
                fitting = min(fitting, done + max(1, int(left / round_s)))
            self.rounds = min(self.rounds, fitting)
            self.planned = True
        if done >= self.rounds:
            self.stopped = "rounds" if self.rounds == self.asked else "planned"
        return self.stopped is not None
