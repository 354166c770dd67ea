"""What a run is known by: the fastest arm of every framework and number of bits, and how near its limits it is."""

import pandas as pd

from bench.arms import ARMS, in_order
from bench.limits import LIMITS, limits_of, shares_of
from bench.lossy import apart
from bench.report import (
    LABELS,
    arm_state,
    baselines,
    by_arm,
    cell,
    of_first_case,
    speed_up_text,
)
from bench.statistics import summary
from bench.sweep import bits_of

STAGES = ("ttft", "token", "without_preprocess", "end_to_end")   # of a table; those that were measured


def median(stages, stage):
    """Median of an arm's stage (ms), None where nothing was measured."""
    figures = summary(stages[stage].samples) if stage in stages else None
    return figures and figures["median"]


def count(stages):
    """How many passes of an arm were measured."""
    return len(stages["end_to_end"].samples or (stages["token"].samples if "token" in stages else []))


def framework(arm):
    """The framework that an arm is of; its own name where this version does not have it."""
    return ARMS[arm].framework if arm in ARMS else arm


def headline_arms(rows):
    """{arm: {stage: row}}: of every framework and number of bits the arm that is fastest end to end, in the registry's
    order. An arm that has decoded but has no end to end (a language model alone) stands only where no other does, and
    a lossy one nowhere: it does not compute the same."""
    fastest = {}
    for arm, stages in by_arm(apart(of_first_case(rows))[0]).items():
        if arm_state(stages)[0] in ("failed", "oom") or median(stages, "token") is None:
            continue
        engine = framework(arm), bits_of(stages)
        order = median(stages, "end_to_end") or float("inf"), median(stages, "token")
        if engine not in fastest or order < fastest[engine][0]:
            fastest[engine] = order, arm, stages
    found = {arm: stages for _, arm, stages in fastest.values()}
    return {arm: found[arm] for arm in in_order(found)}


def headline_rows(rows):
    """The rows of the gated case and of its headline's arms alone."""
    arms = headline_arms(rows)
    return [row for row in of_first_case(rows) if row.arm in arms]


def peer_of(arms):
    """The fastest PyTorch arm among a headline's that keeps all bits of the dtype: what the others are set against."""
    torch = [arm for arm in baselines(arms) if framework(arm) == "torch" and median(arms[arm], "end_to_end")]
    most = max((bits_of(arms[arm]) for arm in torch), default=0)
    return next((arm for arm in torch if bits_of(arms[arm]) == most), None)


def headline_frame(rows):
    """A line per arm: bits, the three times, speed-up against the best PyTorch arm, share of the limit, n."""
    arms = headline_arms(rows)
    peer, shares = peer_of(arms), {arm: shares_of(stages) for arm, stages in arms.items()}
    measured = [stage for stage in STAGES if any(stage in stages for stages in arms.values())]
    lines = {}
    for arm, stages in arms.items():
        line = {"bits of a weight": str(bits_of(stages))}
        line |= {f"{LABELS[stage]} (ms)": cell(stages[stage]) if stage in stages else "-" for stage in measured}
        if peer:
            line[f"speed-up vs {peer}"] = speed_up_text(arms, arm, peer)
        if any("token" in share for share in shares.values()):
            share = shares[arm].get("token")
            line["decode, share of limit"] = "-" if share is None else f"{100 * share:.0f} %"
        lines[arm] = {**line, "n": str(count(stages))}
    return pd.DataFrame.from_dict(lines, orient="index")


def limits_ms(stages):
    """{part: the time (ms) that its bytes or operations take at the rate measured on the device}, of an arm; without
    the parts whose limit is not known. The part "token" is one decode step."""
    return {part: share * median(stages, part) for part, share in shares_of(stages).items()}


def limit_ms(stages):
    """The least time (ms) end to end by all limits of an arm, preprocessing left out; None unless all are known."""
    limits, steps = limits_ms(stages), stages["end_to_end"].case.new_tokens - 1
    if set(limits) != set(LIMITS):
        return None
    return sum(limit * (steps if part == "token" else 1) for part, limit in limits.items())


def limits_frame(rows):
    """A line per arm and stage that has a limit: what it needs, the measured rate, the limit, the time, the share."""
    index, lines = [], []
    for arm, stages in headline_arms(rows).items():
        terms = limits_of(stages)
        for part, limit in limits_ms(stages).items():
            amount, rate = terms[part]
            needs, speed = ((f"{amount / 1e9:.2f} GB of weights", f"{rate / 1e9:.0f} GB/s") if part == "token" else
                            (f"{amount / 1e12:.2f} TFLOP", f"{rate / 1e12:.0f} TFLOP/s"))
            index.append(f"{arm}, {LABELS[part]}")
            ms = median(stages, part)
            lines.append({"needs": needs, "measured rate": speed, "limit (ms)": f"{limit:.2f}",
                          "time (ms)": f"{ms:.2f}", "share": f"{100 * limit / ms:.0f} %"})
    return pd.DataFrame(lines, index=index)


def day_of(rows):
    """The day that a run began on, UTC."""
    return (rows[0].provenance.get("time") or "")[:10] or "on a day not recorded"


def measured_line(rows):
    """The day and the commit that a run is of."""
    git = rows[0].provenance.get("git", {})
    return (f"measured {day_of(rows)}, git {(git.get('sha') or 'unknown')[:8]}"
            + " with uncommitted changes" * bool(git.get("dirty")))
