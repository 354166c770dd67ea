"""Launches that were really made, as rows that `make regress UPDATE=1 LAUNCHES=…` stored, less what no verdict reads.

CALM and NOISY are of a virtual machine with 2 cores that ran nothing else, preset small: its host's other machines left
it alone most of the time, and half of the time (of steps and of the yardstick the least of a round is kept). CALM was
made by an earlier form of the loop, which did not wait for a quiet device and looked at the other programs by passes.
H200 is of one card, preset 7b, ten launches.

    python -m tests.bench_launches RECORDING BEFORE NOW SHARE [LEAST]   # a baseline of BEFORE launches, a check of NOW

says by how much launches differ, and what the rule, with LEAST as the least change that it calls, makes of comparisons
of the recording with itself, without and with decode slowed by SHARE: of 1000 whose launches are drawn at random, and
of all in which the check's launches come right after the baseline's (the end of the recording goes on with its begin),
as those of a machine do, whose state lasts for longer than a launch.
"""

import gzip
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.contest import YARDSTICK
from bench.plan import PLANS
from bench.schema import Row
from bench.verdict import (
    STAGES,
    against_stored,
    best_times,
    knows_steps,
    low_quantile,
    quiet_rounds,
    rows_of,
    with_sums,
)

CALM, NOISY, H200 = (Path(__file__).parent / "data" / f"launches_{name}.jsonl.gz" for name in ("calm", "noisy", "h200"))
ARM = "paddle-fused"
UNDECIDED = {"ambiguous", "insufficient", "invalid"}


def recorded(path):
    """The rows of a recording, packed or not."""
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        return [Row.from_dict(json.loads(line)) for line in f]


def launches_of(rows):
    """How many launches a recording has."""
    return len(next(row for row in rows if row.stage == "end_to_end").by_launch)


def chosen(rows, numbers, slower=None):
    """The rows of these launches alone; slower: {stage: factor on the arm's times}."""
    made = []
    for row in rows:
        factor = (slower or {}).get(row.stage, 1.0) if row.arm != YARDSTICK else 1.0
        launches = [row.by_launch[number] for number in numbers if number < len(row.by_launch)]
        made.append(replace(row, samples=[factor * sample for launch in launches for sample in launch],
                            launches=[len(launch) for launch in launches]))
    return made


def planted(share):
    """Factors of a decode that takes `share` longer, on every stage that it is part of."""
    return {"decode": 1 + share, "least_step": 1 + share}


def drawn(launches, count, seed=0):
    """`count` orders of a recording's launches, at random."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(launches) for _ in range(count)]


def in_time(launches):
    """The orders that keep a recording's launches in turn, one from each of them on."""
    return [np.roll(np.arange(launches), -first) for first in range(launches)]


def pairs(rows, orders, before, now, shares=(0.0,)):
    """Verdicts of comparisons of the recording with itself, one for each order of its launches: of `now` launches,
    decode slowed by each share in turn, against the `before` ones ahead of them. Yields {share: {stage: verdict}}."""
    for order in orders:
        baseline = chosen(rows, order[:before])
        yield {share: {verdict.stage: verdict.verdict for verdict in against_stored(
            ARM, baseline, chosen(rows, order[before:before + now], planted(share)))} for share in shares}


def shares_of(found):
    """(share of comparisons with a stage called slower or faster, share that cannot tell) of {stage: verdict}s."""
    called = [bool({"slower", "faster"} & set(verdicts.values())) for verdicts in found]
    undecided = [not each and bool(UNDECIDED & set(verdicts.values()))
                 for each, verdicts in zip(called, found, strict=True)]
    return sum(called) / len(found), sum(undecided) / len(found)


def deviations(rows):
    """{stage: relative standard deviation of a launch's figure between launches}, by the rounds that count."""
    plan, by_step = PLANS[rows[0].case.device], knows_steps(rows_of(rows, ARM))
    figures = [low_quantile(with_sums(rounds)) for rounds, _ in quiet_rounds(rows, ARM, best_times(rows), plan.quiet,
                                                                              by_step)]
    return dict(zip(STAGES, np.std(figures, 0, ddof=1).tolist()))


def main(path, before, now, share, least=None):
    rows = recorded(path)
    launches, device = launches_of(rows), rows[0].case.device
    if least:
        PLANS[device] = replace(PLANS[device], least=float(least))
    print("standard deviation between launches:",
          ", ".join(f"{stage} {100 * each:.2f} %" for stage, each in deviations(rows).items()))
    for name, orders in (("at random", drawn(launches, 1000)), ("in time", in_time(launches))):
        found = list(pairs(rows, orders, int(before), int(now), (0.0, float(share))))
        called, undecided = shares_of([each[0.0] for each in found])
        print(f"{launches} launches {name}; the same code: slower or faster in some stage {100 * called:.1f} %,"
              f" cannot tell {100 * undecided:.1f} %")
        for planted_share in (0.0, float(share)):
            for stage in found[0][0.0]:
                counts = Counter(each[planted_share][stage] for each in found)
                print(f"decode {100 * planted_share:+.1f} %: {stage:10}", dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
