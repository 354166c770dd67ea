"""Verdicts on one version against another, stage by stage, from rounds that were measured beside each other.

The statistic is the trimmed mean of log ratios of interleaved passes: what slows the whole machine down for a while
slows both passes of a round and cancels out. docs/statistics.md has the reasons and the figures.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.report import OTHERS, markdown_table
from bench.statistics import location, location_interval, mann_whitney, shift_interval
from core.text import plural

STAGES = ("preprocess", "vision", "prefill", "decode", "ttft", "end_to_end")
PARTS = STAGES[:4]         # add up to end_to_end; the others are sums of them
LEAST_EFFECT = 0.02        # no smaller change is called, however narrow its interval
EXCLUDED = 0.05            # "same" means that a change of this size is excluded
PAIRS_AT_LEAST = 8


@dataclass(frozen=True)
class Verdict:
    """One stage. `change`, `low` and `high` are relative (0.05: takes 5 % longer); None where nothing was measured."""

    stage: str
    verdict: str            # "faster" | "slower" | "same" | "ambiguous" | "insufficient" | "invalid"
    change: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float = 0.0      # what an A/A comparison showed
    p: float | None = None  # Mann-Whitney
    pairs: int = 0
    reason: str = ""


def paired_logs(*samples):
    """Log samples of several arms as [arms, rounds]: an interrupted round is left out."""
    rounds = min(map(len, samples))
    return np.log([part[:rounds] for part in samples])


def noise_floor(samples, again):
    """|relative change| between two workers of the same arm: what differs although nothing does."""
    first, second = paired_logs(samples, again)
    return math.expm1(abs(location(second - first))) if len(first) else 0.0


def decide(change, low, high, floor):
    """The verdict on a relative change, its interval and the noise floor."""
    threshold = max(floor, LEAST_EFFECT)
    if low > 0 and change > threshold:
        return "slower"
    if high < 0 and change < -threshold:
        return "faster"
    return "same" if low > -EXCLUDED and high < EXCLUDED else "ambiguous"


def _judged(stage, change, interval, floor, p, pairs):
    change, (low, high) = math.expm1(change), map(math.expm1, interval)
    return Verdict(stage, decide(change, low, high, floor), change, low, high, floor, p, pairs)


def paired(stage, base, head, again=None):
    """Verdict on `head` against `base` from ordered samples, one a round (ms), measured interleaved.

    `again` is a second worker of the base: it makes the base's figure better and gives the noise floor.
    """
    pairs = min(map(len, filter(None, (base, head, again))))
    if not base or not head or pairs < PAIRS_AT_LEAST:
        return Verdict(stage, "insufficient", pairs=pairs if base and head else 0,
                       reason=f"fewer than {PAIRS_AT_LEAST} rounds")
    ours, *theirs = paired_logs(head, *filter(None, (base, again)))
    differences = ours - np.mean(theirs, 0)
    floor = noise_floor(base, again) if again else 0.0
    return _judged(stage, location(differences), location_interval(differences), floor, mann_whitney(base, head), pairs)


def against_stored(stage, before, now, floor=0.0):
    """Verdict on a run against a stored one. `before` and `now` are (samples, samples of the ruler) in ms, each pair
    measured interleaved: what the ruler, whose code did not change, has become slower by is no regression."""
    pairs = min(map(len, (*before, *now)))
    if pairs < PAIRS_AT_LEAST:
        return Verdict(stage, "insufficient", floor=floor, pairs=pairs, reason=f"fewer than {PAIRS_AT_LEAST} rounds")
    (old, old_ruler), (new, new_ruler) = paired_logs(*before), paired_logs(*now)
    first, second = old - old_ruler, new - new_ruler
    return _judged(stage, location(second) - location(first), shift_interval(first, second), floor,
                   mann_whitney(first, second), pairs)


def invalid(verdicts, reason):
    """The verdicts of a run whose conditions forbid any."""
    return [replace(verdict, verdict="invalid", reason=reason) for verdict in verdicts]


def confirm(first, second):
    """The first run's verdicts after a re-run: what it called slower stays so only if the re-run says the same."""
    rerun = {verdict.stage: verdict.verdict for verdict in second}
    return [verdict if verdict.verdict != "slower" or rerun.get(verdict.stage) == "slower" else
            replace(verdict, verdict="ambiguous",
                    reason=f"slower, which a re-run did not confirm: {rerun.get(verdict.stage, 'not made')}")
            for verdict in first]


def slower(verdicts):
    """Stages called slower."""
    return [verdict.stage for verdict in verdicts if verdict.verdict == "slower"]


def why_invalid(rows):
    """Why no verdict may rest on these rows: one line, empty if one may."""
    for row in rows:
        if row.stage == "end_to_end" and row.status != "ok":
            return f"{row.arm}: {row.status}: {row.reason}"
    conditions = rows[0].provenance
    during = conditions.get("during") or {}
    others, gpu = during.get("others_cores"), during.get("gpu")
    if isinstance(others, dict) and others["median"] > OTHERS * conditions["cores"]:
        return (f"other programs kept {others['median']:.1f} of {plural(conditions['cores'], 'core')} busy while arms "
                "were measured: use an idle machine")
    if rows[0].case.device == "gpu" and isinstance(gpu, dict) and gpu["throttled"]:
        return f"the GPU was throttled: {', '.join(gpu['events'])}"
    return ""


def decided(measure, judge):
    """(verdicts, rows of every run): measure() returns rows, judge(rows) the verdicts on them.

    What a first run calls slower is measured once more, by new processes; after Ctrl-C it stays unconfirmed.
    """
    runs = [measure()]
    verdicts = judge(runs[0])
    if slower(verdicts):
        if not interrupted(runs[0]):
            runs.append(measure())
        verdicts = confirm(verdicts, judge(runs[1]) if len(runs) == 2 else [])
    return verdicts, runs


def interrupted(rows):
    return any(row.provenance["rounds"]["interrupted"] for row in rows)


def samples_of(rows):
    """{arm: {stage: samples}} of the gated case."""
    arms = {}
    for row in rows:
        if row.case == rows[0].case:
            arms.setdefault(row.arm, {})[row.stage] = row.samples
    return arms


def verdict_table(verdicts):
    """The verdicts as a Markdown table."""
    def percent(value):
        return "-" if value is None else f"{100 * value:+.1f} %"

    frame = pd.DataFrame([{
        "verdict": verdict.verdict, "change": percent(verdict.change),
        "95 % interval": "-" if verdict.low is None else f"{percent(verdict.low)} .. {percent(verdict.high)}",
        "noise floor": percent(verdict.floor), "Mann-Whitney p": "-" if verdict.p is None else f"{verdict.p:.2g}",
        "rounds": verdict.pairs, "remark": verdict.reason} for verdict in verdicts],
        index=[verdict.stage for verdict in verdicts])
    return markdown_table(frame, "stage")
