"""The timeline: one line per measured arm and stage in results/history.jsonl, and where a series changed.

A series is one benchmark version, machine, case, arm and stage; series are never mixed. A change point is where the
medians before and after differ: of all places with at least AROUND runs on both sides the one that leaves the smallest
sum of absolute deviations from the two sides' medians, if the p of a two-sided Mann-Whitney test there times the number
of places (Bonferroni) is below ALPHA and the medians differ by more than EFFECT; then the same on both sides of it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu

from bench.arms import in_order
from bench.plots import CAPTION, DPI, FONT, WIDTH, arm_style, fill, logarithmic
from bench.provenance import machine_name
from bench.report import device_name, markdown_table, markdown_text
from bench.schema import BENCHMARK, TIMED
from bench.statistics import summary
from core import json_lines
from core.errors import UserError
from core.files import atomic_file
from core.text import plural

FILE = "history.jsonl"
HISTORY = 1       # schema of a line
AROUND = 5        # runs that a change needs on both sides
ALPHA = 0.05
EFFECT = 0.02
LABELLED_RUNS = 8   # at most, along a picture's axis
REMEDY = "delete that line, the others stay: sed -i {number}d {path}"
CONFLICT_REMEDY = "keep the lines of both sides: sed -i '/^[<=>|]\\{{7\\}}/d' {path}"
FIELDS = ("schema", "benchmark", "date", "sha", "dirty", "machine", "case", "arm", "stage", "unit", "median", "n")


@dataclass(frozen=True)
class Series:
    """What may be compared over time."""

    machine: str
    case: str
    arm: str
    stage: str


def lines_of(rows):
    """The history lines of one run: a dict per timed stage with status ok; none of rows without a date."""
    machine, lines = machine_name(rows[0].provenance, device_name(rows)), []
    for row in rows:
        if row.stage not in TIMED or row.status != "ok" or not row.provenance.get("time"):
            continue
        figures, conditions = summary(row.samples), row.provenance
        git = conditions.get("git", {})
        lines.append(dict(zip(FIELDS, (
            HISTORY, row.benchmark, conditions.get("time"), git.get("sha"), git.get("dirty"), machine,
            row.case.slug, row.arm, row.stage, row.unit, figures["median"], figures["n"]), strict=True)))
    return lines


def append(out, rows):
    """Add one run to the history in the results folder `out`: all of its lines or none."""
    if lines := lines_of(rows):
        json_lines.append(Path(out) / FILE, lines)


def read(out):
    """({Series: its lines, oldest first}, number of lines of other benchmark versions); UserError for no history."""
    path = Path(out) / FILE
    if not path.is_file():
        raise UserError(f"there is no {path}: `make bench` adds every run to it")
    series, others = {}, 0
    for number, line in json_lines.read(path, REMEDY, CONFLICT_REMEDY):
        if what := _fault(line):
            raise json_lines.fault(path, number, what, REMEDY)
        if line["schema"] != HISTORY:
            raise json_lines.fault(path, number, f"has schema {line['schema']!r}, this version reads {HISTORY}",
                                   "use the version that wrote it")
        if line["benchmark"] == BENCHMARK:
            key = Series(line["machine"], line["case"], line["arm"], line["stage"])
            series.setdefault(key, []).append(line)
        else:
            others += 1
    return {key: sorted(lines, key=lambda line: line["date"]) for key, lines in series.items()}, others


def _fault(line):
    """What is wrong with a value that should be a line of a history; "" for a line of any schema that is right."""
    if not isinstance(line, dict) or "schema" not in line:
        return "is no line of a history"
    if line["schema"] != HISTORY:
        return ""
    if missing := [name for name in FIELDS if name not in line]:
        return f"lacks {', '.join(missing)}"
    texts = [line[name] for name in ("date", "machine", "case", "arm", "stage")] + [line["sha"] or ""]
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        return "holds something else than texts that can be shown"
    if any(Path(line[name]).name != line[name] for name in ("machine", "case")):
        return "names a machine or a case that is no name of a folder"
    median = line["median"]
    return "" if isinstance(median, (int, float)) and 0 < median < math.inf else "has no median"


def unreadable(out):
    """Why the history in a results folder cannot be read, in one line; "" if it can, or if there is none."""
    try:
        if (Path(out) / FILE).is_file():
            read(out)
    except UserError as e:
        return str(e)
    return ""


def change_points(values):
    """Indices of the first value after each change, in order."""
    values = np.asarray(values, float)
    places = range(AROUND, len(values) - AROUND + 1)
    if not places:
        return []
    change = min(places, key=lambda i: _deviations(values[:i]) + _deviations(values[i:]))
    p = mannwhitneyu(values[:change], values[change:]).pvalue
    if p * len(places) >= ALPHA or abs(np.median(values[change:]) / np.median(values[:change]) - 1) <= EFFECT:
        return []
    return [*change_points(values[:change]), change, *(change + i for i in change_points(values[change:]))]


def _deviations(values):
    return np.abs(values - np.median(values)).sum()


def changes_of(lines):
    """One dict per change of a series: run (its index), date, sha, medians before and after.

    The medians are those of the stretches between changes.
    """
    values = [line["median"] for line in lines]
    points = change_points(values)
    edges = [0, *points, len(values)]
    changes = []
    for i, point in enumerate(points, 1):
        before, after = (float(np.median(values[a:b])) for a, b in
                         ((edges[i - 1], edges[i]), (edges[i], edges[i + 1])))
        changes.append({"run": point, "date": lines[point]["date"], "sha": lines[point]["sha"], "before": before,
                        "after": after})
    return changes


def _short(line):
    return f"{(line['sha'] or 'no git')[:8]}{'+' if line['dirty'] else ''}"


def history_markdown(series, others=0):
    """Per machine and case a table: first and latest run of every arm and stage, and its changes."""
    parts = ["# History\n\nMedians over time. A change: medians before and after differ by more than "
             f"{100 * EFFECT:.0f} % (Mann-Whitney, Bonferroni, {ALPHA}; at least {AROUND} runs on both sides). "
             "`+`: with uncommitted changes."]
    if others:
        parts.append(f"Left out: {plural(others, 'line')} of other benchmark versions.")
    for machine, case in dict.fromkeys((key.machine, key.case) for key in series):
        texts, index = [], []
        for key, lines in series.items():
            if (key.machine, key.case) != (machine, case):
                continue
            changes = [f"{change['date'][:10]} {(change['sha'] or 'no git')[:8]}: {change['before']:.4g} → "
                       f"{change['after']:.4g} ({100 * (change['after'] / change['before'] - 1):+.1f} %)"
                       for change in changes_of(lines)]
            enough = len(lines) >= 2 * AROUND
            index.append(f"{key.arm}, {key.stage}")
            texts.append({"runs": str(len(lines)), "first (ms)": f"{lines[0]['median']:.4g}",
                          "latest (ms)": f"{lines[-1]['median']:.4g}", "latest run": lines[-1]["date"][:10],
                          "git": _short(lines[-1]),
                          "changes": "; ".join(changes) or ("none" if enough else "too few runs to tell")})
        parts += [f"## {markdown_text(f'{machine}, {case}')}",
                  markdown_table(pd.DataFrame(texts, index=index), "arm, stage")]
    return "\n\n".join(parts) + "\n"


def history_figure(series, machine, case, stage="end_to_end"):
    """Medians of one stage over the runs of one machine and case, a line per arm, dashed where it changed."""
    lines_of_arm = {key.arm: lines for key, lines in series.items()
                    if (key.machine, key.case, key.stage) == (machine, case, stage)}
    dates = sorted({line["date"] for lines in lines_of_arm.values() for line in lines})
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(WIDTH, 4), layout="constrained")
        axes = figure.add_subplot()
        for arm in in_order(lines_of_arm):
            lines, (colour, marker) = lines_of_arm[arm], arm_style(arm, lines_of_arm)
            xs = [dates.index(line["date"]) for line in lines]
            axes.plot(xs, [line["median"] for line in lines], color=colour, marker=marker, label=arm)
            for change in changes_of(lines):
                axes.axvline(xs[change["run"]] - 0.5, color=colour, linestyle="--", linewidth=1)
        every = max(1, -(-len(dates) // LABELLED_RUNS))
        labels = {line["date"]: f"{line['date'][:10]}\n{_short(line)}"
                  for lines in lines_of_arm.values() for line in lines}
        axes.set_xticks(range(0, len(dates), every), [labels[date] for date in dates[::every]], fontsize=8)
        axes.set_xlabel("run (date, git); dashed: a change of the arm in that colour", fontsize=10)
        axes.set_title(f"{stage.replace('_', ' ')} (ms), median; lower is better", fontsize=10, loc="left")
        logarithmic(axes)
        axes.tick_params(axis="y", labelsize=9)
        axes.margins(x=0.08)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=10)
        figure.supxlabel(fill(f"{machine}; {case}"), **CAPTION)
    return figure


def write_history(out):
    """Write history.md and, beside the results of cases with two runs and more, history.png.

    A picture of a case that has fewer, left from another benchmark version, goes. Returns (Markdown, [written paths]).
    """
    series, others = read(out)
    text, written = history_markdown(series, others), [Path(out) / "history.md"]
    with atomic_file(written[0], "w") as f:
        f.write(text)
    with_picture = {(key.machine, key.case) for key, runs in series.items() if len(runs) > 1}
    for machine, case in dict.fromkeys((key.machine, key.case) for key in series):
        picture = Path(out) / machine / case / "history.png"
        if (machine, case) not in with_picture:
            picture.unlink(missing_ok=True)
            continue
        written.append(picture)
        with atomic_file(written[-1]) as f:
            history_figure(series, machine, case).savefig(f, format="png", dpi=DPI)
    return text, written
