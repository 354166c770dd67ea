"""Verdicts on one version against another, stage by stage, from several launches of each.

A round's figure is the log of a stage's time, of a decode's the log of its fastest step; a launch's the lower quartile
of its rounds, or the median of their differences where both versions ran in the same rounds; a version's the trimmed
mean of its launches. Intervals come from launches drawn anew, each with its rounds drawn anew. docs/statistics.md has
the data.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from bench.contest import YARDSTICK
from bench.plan import PLANS
from bench.report import OTHERS_SHARE, conditions_line, markdown_table
from bench.schema import DEVICE_STAGES, OTHERS
from bench.statistics import CONFIDENCE, half_width, launch_draws, location_draws
from core.text import plural

PARTS = ("preprocess", "vision", "prefill", "decode")
STAGES = (*PARTS, "ttft", "end_to_end")   # the last two are sums of the others
LOW = 0.25               # quantile of a launch's rounds
TRIMMED = 0.25           # share of the launches left out at each end
LAUNCHES_AT_LEAST = 4    # of each side
BEST = 0.05              # quantile of the yardstick's times that a device shows when nothing slows it
CLOCK_LOST = 0.02        # of the GPU's clock: what a card that reports its power cap in a few looks does not lose


@dataclass(frozen=True)
class Verdict:
    """One stage. `change`, `low` and `high` are relative (0.05: takes 5 % longer); None where nothing was measured.

    The interval is wide enough for all stages together.
    """

    stage: str
    verdict: str            # "faster" | "slower" | "same" | "ambiguous" | "insufficient" | "invalid"
    change: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None   # what two such sets of launches of the same code may differ by
    launches: int = 0       # of the side that has fewer
    rounds: int = 0         # of all those launches
    reason: str = ""


def rows_of(rows, arm):
    """{stage: Row} of an arm in the gated case."""
    return {row.stage: row for row in rows if row.arm == arm and row.case == rows[0].case}


def knows_steps(*sides):
    """Whether all of these {stage: Row} tell the fastest step of every decode; a version of before does not."""
    return all("least_step" in stages and stages["least_step"].samples for stages in sides)


def rounds_of(stages, by_step):
    """Per launch the logs of the parts' times in its rounds, [rounds, PARTS], of an arm's {stage: Row}; NaN where a
    part has none. by_step: a decode's time is that of its fastest step, as often as it has steps."""
    launches = []
    for i, passes in enumerate(stages["end_to_end"].by_launch):
        columns = []
        for part in PARTS:
            samples = stages[part].by_launch if part in stages else []
            if samples and part == "decode" and by_step:
                columns.append(np.array(stages["least_step"].by_launch[i]) * (stages[part].case.new_tokens - 1))
            else:
                columns.append(np.array(samples[i]) if samples else np.full(len(passes), np.nan))
        launches.append(np.log(columns).T)
    return launches


def with_sums(rounds):
    """[…, PARTS] logs -> […, STAGES] logs."""
    times = np.exp(rounds)
    return np.concatenate([rounds, np.log(np.nansum(times[..., :3], -1, keepdims=True)),
                           np.log(np.nansum(times, -1, keepdims=True))], -1)


def device_times(rows):
    """Per launch the yardstick's least times before and after each round, ms [rounds, 2, DEVICE_STAGES]."""
    stages = rows_of(rows, YARDSTICK)
    rounds = [len(cores) for cores in stages[OTHERS].by_launch]
    return [np.stack([np.min(np.reshape(stages[name].by_launch[i], [count, 2, -1]), -1) for name in DEVICE_STAGES], -1)
            for i, count in enumerate(rounds)]


def best_times(rows):
    """{stage: ms} of the device when nothing slows it."""
    return dict(zip(DEVICE_STAGES, np.quantile(np.concatenate(device_times(rows)), BEST, (0, 1)).tolist(), strict=True))


def quiet_rounds(rows, arm, best, share, by_step):
    """(rounds_of, logs of the device's times over the best [rounds, DEVICE_STAGES]) per launch, of the rounds alone
    around which the device was within `share` of its best and no other programs ran; launches without any are left out.
    """
    cores = OTHERS_SHARE * rows[0].provenance["cores"]
    others = rows_of(rows, YARDSTICK)[OTHERS].by_launch
    launches = []
    for rounds, times, busy in zip(rounds_of(rows_of(rows, arm), by_step), device_times(rows), others,
                                   strict=True):
        over = np.log(times / np.array([best[stage] for stage in DEVICE_STAGES]))
        quiet = (over <= np.log1p(share)).all((1, 2)) & (np.array(busy) <= cores)
        if quiet.any():
            launches.append((rounds[quiet], over[quiet].mean(1)))
    return launches


def slopes(launches):
    """How the logs of the parts follow those of the device, [DEVICE_STAGES, PARTS]: least squares over quiet rounds."""
    rounds, over = (np.concatenate(part) for part in zip(*launches, strict=True))
    rounds = np.nan_to_num(rounds)
    return np.linalg.lstsq(over - over.mean(0), rounds - rounds.mean(0), rcond=None)[0]


def log_location(values):
    """Where logs of launches' figures lie, over axis 1 of [draws, launches, …]."""
    return stats.trim_mean(values, TRIMMED, axis=1)


def located(launches, figure, seed):
    """(locations [STAGES], draws of them [RESAMPLES, STAGES]) of a list of launches' rounds, [rounds, STAGES] each."""
    figures, draws = map(np.stack, zip(*(launch_draws(rounds, figure) for rounds in launches), strict=True))
    return log_location(figures[None])[0], location_draws(figures, draws, log_location, seed)


def judged_stages(change, level, sides, floor, rounds, plan, known=None):
    """A Verdict per stage that was measured: of changes [STAGES] of a `level`, the base's times, both in logs.

    sides: (draws [RESAMPLES, STAGES], launches) of the one or two that the changes are the difference of; floor:
    likewise of what the same code may differ by.
    """
    def width(of, stage, confidence=CONFIDENCE):
        return half_width(*((draws[:, stage], launches) for draws, launches in of), confidence=confidence)

    verdicts = []
    for i, stage in enumerate(STAGES):
        if not np.isfinite(change[i]):
            continue
        shift = change[i] - math.log1p((known or {}).get(stage, 0.0))
        half = width(sides, i, 1 - (1 - CONFIDENCE) / len(STAGES))
        reach = width(sides, i, 2 * CONFIDENCE - 1)   # two one-sided tests of a change by `excluded`
        excluded = max(plan.excluded, plan.of_whole * math.exp(level[-1] - level[i]))
        verdict = "same" if abs(shift) + reach < math.log1p(excluded) else "ambiguous"
        if abs(shift) > max(half, math.log1p(plan.least)):
            verdict = "slower" if shift > 0 else "faster"
        verdicts.append(Verdict(stage, verdict, *map(math.expm1, (shift, shift - half, shift + half)),
                                math.expm1(width(floor, i)), min(launches for _, launches in sides), rounds))
    return verdicts


def insufficient(launches, rounds, reason):
    return [Verdict(stage, "insufficient", launches=launches, rounds=rounds, reason=reason) for stage in STAGES]


def against_stored(arm, baseline, rows, known=None):
    """Verdicts on a run against a stored one, both with the yardstick; known: {stage: accepted relative change}."""
    if reason := why_invalid(rows) or clock_moved(baseline, rows):
        return [replace(verdict, verdict="invalid") for verdict in insufficient(0, 0, reason)]
    plan, best = PLANS[rows[0].case.device], best_times(baseline)
    by_step = knows_steps(rows_of(baseline, arm), rows_of(rows, arm))
    before, now = (quiet_rounds(side, arm, best, plan.quiet, by_step) for side in (baseline, rows))
    launches, rounds = min(len(before), len(now)), sum(len(of_launch) for of_launch, _ in now)
    if launches < LAUNCHES_AT_LEAST:
        times = best_times(rows)
        return insufficient(launches, rounds, f"the device was as fast as for the baseline in {launches} launches"
                            f", fewer than {LAUNCHES_AT_LEAST}: reading took {times['device_read']:.3g} ms at best, "
                            f"{best['device_read']:.3g} then")
    follow = slopes(before)
    sides = [[with_sums(of_launch - over @ follow) for of_launch, over in side] for side in (before, now)]
    (old, old_draws), (new, new_draws) = (located(side, low_quantile, seed) for seed, side in enumerate(sides))
    again = [(old_draws, len(before))] * 2
    return judged_stages(new - old, old, [(old_draws, len(before)), (new_draws, len(now))], again, rounds, plan, known)


def low_quantile(rounds):
    """The figure of a launch: [..., rounds, STAGES] -> [..., STAGES]."""
    return np.quantile(rounds, LOW, axis=-2)


def paired(base, head, rows):
    """Verdicts on the arm `head` against `base`, whose launches made the same rounds."""
    if reason := why_invalid(rows):
        return [replace(verdict, verdict="invalid") for verdict in insufficient(0, 0, reason)]
    sides = [rows_of(rows, arm) for arm in (base, head)]
    before, now = (rounds_of(side, knows_steps(*sides)) for side in sides)
    differences = [with_sums(ours[:len(theirs)]) - with_sums(theirs[:len(ours)])
                   for theirs, ours in zip(before, now, strict=False)]
    launches, rounds = len(differences), sum(map(len, differences))
    if launches < LAUNCHES_AT_LEAST:
        return insufficient(launches, rounds, f"fewer than {LAUNCHES_AT_LEAST} launches")
    change, draws = located(differences, lambda rounds: np.median(rounds, axis=-2), 0)
    level = np.median([with_sums(theirs).mean(0) for theirs in before], 0)
    sides = [(draws, launches)]
    return judged_stages(change, level, sides, sides, rounds, PLANS[rows[0].case.device])


def slower(verdicts):
    """Stages called slower."""
    return [verdict.stage for verdict in verdicts if verdict.verdict == "slower"]


def clock_of(rows):
    """The GPU's median clock in MHz while rounds were made; None where it is not known."""
    gpu = (rows[0].provenance.get("during") or {}).get("gpu")
    clock = gpu.get("sm_mhz") if isinstance(gpu, dict) and rows[0].case.device == "gpu" else None
    return clock if isinstance(clock, dict) else None


def clock_moved(baseline, rows):
    """Why the GPU's clock forbids a comparison with the baseline: one line, empty if it does not."""
    before, now = clock_of(baseline), clock_of(rows)
    if not before or not now or abs(now["median"] / before["median"] - 1) <= CLOCK_LOST:
        return ""
    return f"the GPU ran at {now['median']:.0f} MHz, at {before['median']:.0f} MHz for the baseline"


def why_invalid(rows):
    """Why no verdict may rest on these rows: one line, empty if one may."""
    for row in rows:
        if row.stage in ("end_to_end", OTHERS) and row.status != "ok":
            return f"{row.arm}: {row.status}: {row.reason}"
    conditions = rows[0].provenance
    others = (conditions.get("during") or {}).get("others_cores")
    if isinstance(others, dict) and others["median"] > OTHERS_SHARE * conditions["cores"]:
        return (f"other programs kept {others['median']:.1f} of {plural(conditions['cores'], 'core')} busy while arms "
                "were measured: use an idle machine")
    clock = clock_of(rows)
    if clock and clock["median"] < (1 - CLOCK_LOST) * clock["max"]:
        events = ", ".join(conditions["during"]["gpu"]["events"])
        return f"the GPU lost clocks: {clock['median']:.0f} of {clock['max']:.0f} MHz in half of the looks ({events})"
    return ""


def interrupted(rows):
    return any(row.provenance["rounds"]["interrupted"] for row in rows)


def run_line(rows):
    """The conditions of a run, and how many launches and rounds were made; a verdict says how many of them counted."""
    launches = rows_of(rows, rows[0].arm)["end_to_end"].by_launch
    conditions = conditions_line([row for row in rows if row.arm != YARDSTICK])
    return f"{conditions}; {len(launches)} launches with {plural(sum(map(len, launches)), 'round')}"


def verdict_table(verdicts):
    """The verdicts as a Markdown table."""
    def percent(value):
        return "-" if value is None else f"{100 * value:+.1f} %"

    frame = pd.DataFrame([{
        "verdict": verdict.verdict, "change": percent(verdict.change),
        "95 % interval, all stages":
            "-" if verdict.low is None else f"{percent(verdict.low)} .. {percent(verdict.high)}",
        "noise floor": percent(verdict.floor), "launches": verdict.launches, "rounds": verdict.rounds,
        "remark": verdict.reason} for verdict in verdicts], index=[verdict.stage for verdict in verdicts])
    return markdown_table(frame, "stage")
