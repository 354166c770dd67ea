"""How much is measured, by device, and how small a change is called; docs/statistics.md says what that rests on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """What a command does unless it is told otherwise."""

    launches: int      # of every arm of a table
    judged: int        # the most launches of each side of a verdict
    rounds: int        # of each of those
    warmup: int        # the most warm-up passes of each of those
    seconds: float     # no launch of a verdict begins that would not end within them
    baseline: float    # the same of a baseline, which is measured once and compared with often
    quiet: float       # how far the device may be from its best times around a round that counts
    least: float       # no smaller change is called, however narrow its interval
    excluded: float    # "same" means that a change of a stage by this is excluded, or, where that is more,
    of_whole: float    # one by this much of the whole pass


PLANS = {"cpu": Plan(launches=4, judged=60, rounds=5, warmup=2, seconds=165, baseline=500, quiet=0.15, least=0.03,
                     excluded=0.05, of_whole=0.003),
         "gpu": Plan(launches=3, judged=10, rounds=10, warmup=4, seconds=210, baseline=210, quiet=0.1, least=0.01,
                     excluded=0.03, of_whole=0.003)}


def judged(options, baseline=False):
    """RunOptions for a verdict, or for a baseline: what was not asked for is as the device's plan says."""
    limits, plan = options.limits, PLANS[options.case.device]
    seconds = plan.baseline if baseline else plan.seconds
    return replace(options, limits=replace(
        limits, launches=limits.launches or plan.judged, rounds=limits.rounds or plan.rounds,
        deadline=limits.deadline or seconds, warmup=plan.warmup, budget=0, cold=0, new_lengths=0))
