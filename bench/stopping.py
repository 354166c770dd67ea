"""When the warm-up is over and when enough rounds are measured."""

import time

from bench.statistics import median_half_width

NARROW = 0.02          # half width of a 95 % interval over its centre
ROUNDS_AT_LEAST = 8    # below, an interval of a median says little
CHECK_EVERY = 8        # rounds between two looks at a verdict's intervals
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
    """Says after each round whether to stop and keeps why in `stopped` ("narrow", "budget" or "rounds").

    `narrow` is called with the entries after a round; `budget` is in seconds of measuring (None: none), `rounds` the
    most rounds to make.
    """

    def __init__(self, rounds, budget=None, narrow=None, at_least=ROUNDS_AT_LEAST, clock=time.monotonic):
        self.rounds, self.budget, self.at_least, self.clock = rounds, budget, at_least, clock
        self.narrow = narrow or (lambda entries: medians_narrow(
            [entry.samples.get("end_to_end", []) for entry in entries]))
        self.stopped, self.begin = None, None

    def start(self):
        self.stopped, self.begin = None, self.clock()

    def enough(self, done, entries):
        """Whether `done` rounds of the arms in `entries` are enough."""
        if done >= self.rounds:
            self.stopped = "rounds"
        elif self.budget is not None and self.clock() - self.begin >= self.budget:
            self.stopped = "budget"
        elif done >= self.at_least and entries and self.narrow(entries):
            self.stopped = "narrow"
        return self.stopped is not None
