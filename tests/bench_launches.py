"""Launches that were really made, as rows: of a virtual machine with 2 cores that ran nothing else, preset small, as
`make regress UPDATE=1 LAUNCHES=…` stores them, less what no verdict reads (of steps and of the yardstick the least of
a round is kept). CALM: its host's other machines left it alone most of the time, NOISY: half of the time. CALM was made
by an earlier form of the loop, which did not wait for a quiet device and looked at the other programs by passes.

    python -m tests.bench_launches RECORDING BEFORE NOW SHARE     # a baseline of BEFORE launches, a check of NOW

says what the rule makes of 1000 comparisons of the recording with itself, without and with decode slowed by SHARE.
"""

import gzip
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.contest import YARDSTICK
from bench.schema import Row
from bench.verdict import against_stored

CALM, NOISY = (Path(__file__).parent / "data" / f"launches_{name}.jsonl.gz" for name in ("calm", "noisy"))
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


def pairs(rows, count, before, now, shares=(0.0,), seed=0):
    """Verdicts of `count` comparisons of the recording with itself: `now` launches, decode slowed by each share in
    turn, against `before` other ones, drawn at random. Yields {share: {stage: verdict}}."""
    rng, launches = np.random.default_rng(seed), launches_of(rows)
    for _ in range(count):
        drawn = rng.permutation(launches)[:before + now]
        baseline = chosen(rows, drawn[:before])
        yield {share: {verdict.stage: verdict.verdict for verdict in against_stored(
            ARM, baseline, chosen(rows, drawn[before:], planted(share)))} for share in shares}


def shares_of(found):
    """(share of comparisons with a stage called slower or faster, share that cannot tell) of {stage: verdict}s."""
    called = [bool({"slower", "faster"} & set(verdicts.values())) for verdicts in found]
    undecided = [not each and bool(UNDECIDED & set(verdicts.values()))
                 for each, verdicts in zip(called, found, strict=True)]
    return sum(called) / len(found), sum(undecided) / len(found)


def main(path, before, now, share):
    found = list(pairs(recorded(path), 1000, int(before), int(now), (0.0, float(share))))
    called, undecided = shares_of([each[0.0] for each in found])
    print(f"{launches_of(recorded(path))} launches; the same code: slower or faster in some stage {100 * called:.1f} %,"
          f" cannot tell {100 * undecided:.1f} %")
    for planted_share in (0.0, float(share)):
        for stage in found[0][0.0]:
            counts = Counter(each[planted_share][stage] for each in found)
            print(f"decode {100 * planted_share:+.1f} %: {stage:10}", dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
