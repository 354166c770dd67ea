"""How much is measured, by device, and how small a change is called; docs/statistics.md has the data behind it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """What a command does unless it is told otherwise."""

    launches: int      # of every arm of a table
    judged: int        # launches of each side of a verdict
    rounds: int        # of each of those
    warmup: int        # the most warm-up passes of each of those
    seconds: float     # no launch begins that would not end within them
    quiet: float       # how far the device may be from its best times around a round that counts
    least: float       # no smaller change is called, however narrow its interval
    excluded: float    # "same" means that a change of this size is excluded


PLANS = {"cpu": Plan(launches=4, judged=30, rounds=8, warmup=2, seconds=165, quiet=0.12, least=0.02, excluded=0.05),
         "gpu": Plan(launches=3, judged=8, rounds=10, warmup=4, seconds=210, quiet=0.02, least=0.01, excluded=0.03)}


def judged(options):
    """RunOptions for a verdict: what was not asked for is as the device's plan says."""
    limits, plan = options.limits, PLANS[options.case.device]
    return replace(options, limits=replace(
        limits, launches=limits.launches or plan.judged, rounds=limits.rounds or plan.rounds,
        deadline=limits.deadline or plan.seconds, warmup=plan.warmup, budget=0, cold=0))
