"""Tables from rows: pandas for files, rich for the screen."""

import shlex

import pandas as pd
from rich.table import Table
from rich.text import Text

from bench.arms import BASELINES
from bench.schema import STAGES
from bench.statistics import speed_up, summary

LABELS = {"preprocess": "preprocess", "vision": "vision", "prefill": "prefill", "ttft": "TTFT",
          "token": "decode / token", "end_to_end": "end to end", "load": "load", "peak_memory": "peak memory"}
BUSY = 0.5  # load average per core above which a run is said to be disturbed


def by_arm(rows):
    """{arm: {stage: row}} in the rows' order."""
    arms = {}
    for row in rows:
        arms.setdefault(row.arm, {})[row.stage] = row
    return arms


def arm_state(stages):
    """(status, reason) of an arm: those of its end-to-end row."""
    row = stages["end_to_end"]
    return row.status, row.reason


def speed_up_of(arms, arm, baseline):
    """Speed-up end to end against a baseline arm, or the text that stands in its place."""
    for name in (arm, baseline):
        if name not in arms:
            return "not run"
        status, reason = arm_state(arms[name])
        if reason.startswith("gate failed"):
            return reason if name == arm else f"{name}: {reason}"
        if status != "ok":
            return status if name == arm else f"{name} {status}"
    return speed_up(arms[baseline]["end_to_end"].samples, arms[arm]["end_to_end"].samples)


def summary_frame(rows):
    """A line per arm: status, reason, median, min, p90 and number of samples of every stage, speed-ups."""
    arms = by_arm(rows)
    lines = []
    for arm, stages in arms.items():
        status, reason = arm_state(stages)
        line = {"arm": arm, "status": status, "reason": reason}
        for stage, (unit, _) in STAGES.items():
            for name, value in (summary(stages[stage].samples) or {}).items():
                line[f"{stage}_{name}" + ("" if name == "n" else f"_{unit}")] = value
        for baseline in BASELINES:
            line[f"speedup_vs_{baseline}"] = speed_up_of(arms, arm, baseline)
        lines.append(line)
    return pd.DataFrame(lines).set_index("arm")


def _number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(row):
    """median [min..p90], one number for a single sample, a dash for none."""
    figures = summary(row.samples)
    if figures is None:
        return "-"
    if figures["n"] == 1:
        return _number(figures["median"])
    return f"{_number(figures['median'])} [{_number(figures['min'])}..{_number(figures['p90'])}]"


def display_frame(rows):
    """What people read: a column per arm, lines for status, stages and speed-ups."""
    arms = by_arm(rows)
    columns = {}
    for arm, stages in arms.items():
        column = {"status": arm_state(stages)[0]}
        for stage, label in LABELS.items():
            column[f"{label} ({STAGES[stage][0]})"] = cell(stages[stage])
        for baseline in BASELINES:
            factor = speed_up_of(arms, arm, baseline)
            column[f"speed-up vs {baseline}"] = factor if isinstance(factor, str) else (
                "-" if factor is None else f"{factor:.2f}x")
        columns[arm] = column
    return pd.DataFrame(columns)


def device_name(rows):
    """Name of the GPU that the arms ran on, None for the CPU."""
    names = (row.provenance["versions"].get("device_name") for row in rows)
    return next((name for name in names if name), None)


def conditions_line(rows):
    """Machine, threads, dtype, preset, weights and tokens, in one line."""
    case, conditions = rows[0].case, rows[0].provenance
    device = device_name(rows)
    weights = "synthetic weights" if conditions["checkpoint"]["synthetic"] else "weights not marked as synthetic"
    rounds = conditions["rounds"]
    parts = [device or f"{conditions['cpu']}, {conditions['cores']} cores", f"{conditions['threads']} CPU threads",
             f"preset {case.preset}", case.dtype, weights,
             f"batch {case.batch}", f"{case.prompt_tokens} prompt + {case.new_tokens} new tokens",
             f"{rounds['done']} rounds" + (f" of {rounds['asked']}, interrupted" if rounds["interrupted"] else "")]
    return "; ".join(parts)


def notes(rows):
    """Lines under a table: how to read it, what memory counts, why an arm has no figures."""
    counted = sorted({row.counted for row in rows if row.counted})
    lines = ["Times are median [min..p90]; speed-ups are ratios of end-to-end medians."]
    load, cores = rows[0].provenance["load_average"], rows[0].provenance["cores"]
    if load > BUSY * cores:
        lines.append(f"Other programs were busy when this began (load average {load:.1f} on {cores} cores): "
                     "measure again on an idle machine before trusting differences.")
    if counted:
        lines.append(f"Peak memory: {', '.join(counted)}, since its start.")
    for arm, stages in by_arm(rows).items():
        status, reason = arm_state(stages)
        if status != "ok":
            lines.append(f"{arm}: {status}: {reason}")
    return lines


def markdown(rows):
    """The table with its conditions as Markdown."""
    table = display_frame(rows).to_markdown(disable_numparse=True)
    command = shlex.join(rows[0].provenance["argv"])
    return "\n\n".join([conditions_line(rows), table, *notes(rows), f"Command: `{command}`"]) + "\n"


def show(rows, console):
    """Print the table with its conditions."""
    frame = display_frame(rows)
    table = Table("")
    for arm in frame.columns:
        table.add_column(arm, justify="right")
    for name, line in zip(frame.index, frame.itertuples(index=False), strict=True):
        table.add_row(name, *map(Text, line))
    console.print(table)
    for line in [conditions_line(rows), *notes(rows)]:
        console.print(line, markup=False, highlight=False)
