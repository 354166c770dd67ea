"""Rows in the formats of other tools: github-action-benchmark's customSmallerIsBetter, Bencher Metric Format, CSV.

All times and memory are better when smaller. Only rows with status ok are exported: a failed gate publishes nothing.
"""

import pandas as pd

from bench.statistics import summary
from core.text import escaped, plural


def measured(rows):
    """(row, summary) of what may be published."""
    return [(row, summary(row.samples)) for row in rows if row.status == "ok" and row.samples]


def to_action_benchmark(rows):
    """The list that github-action-benchmark reads with `tool: customSmallerIsBetter`."""
    entries = []
    for row, figures in measured(rows):
        conditions = row.provenance
        extra = [f"median of {figures['n']}", f"{conditions['cpu']}, {plural(conditions['threads'], 'thread')}",
                 f"git {conditions.get('git', {}).get('sha')}", conditions.get("repro", "")]
        entries.append({"name": escaped(f"{row.case.slug}/{row.arm}/{row.stage}"), "unit": row.unit,
                        "value": figures["median"], "range": f"{figures['min']:.6g} to {figures['p90']:.6g}",
                        "extra": "\n".join(map(escaped, filter(None, extra)))})
    return entries


def to_bencher(rows):
    """Bencher Metric Format: {case and arm: {stage and unit: value, lower_value (least), upper_value (p90)}}.

    A measure's unit belongs to the project there, so it is part of the measure's slug.
    """
    metrics = {}
    for row, figures in measured(rows):
        measure = f"{row.stage}-{row.unit}".replace("_", "-").lower()
        metrics.setdefault(f"{row.case.slug}/{row.arm}", {})[measure] = {
            "value": figures["median"], "lower_value": figures["min"],
            "upper_value": max(figures["p90"], figures["median"])}
    return metrics


def to_frame(rows):
    """A line per row, for CSV: case, arm, stage, status, figures and the conditions that matter most."""
    lines = []
    for row in rows:
        figures, conditions = summary(row.samples) or {}, row.provenance
        git, checkpoint = conditions.get("git", {}), conditions.get("checkpoint", {})
        lines.append({
            "case": row.case.slug, "arm": row.arm, "stage": row.stage, "unit": row.unit, "status": row.status,
            "reason": row.reason, **{name: figures.get(name) for name in ("median", "min", "p90", "n")},
            "time": conditions.get("time"), "git_sha": git.get("sha"), "git_dirty": git.get("dirty"),
            "cpu": conditions["cpu"], "threads": conditions["threads"], "weights": checkpoint.get("hash"),
            "synthetic": checkpoint.get("synthetic"), "schema": row.schema, "benchmark": row.benchmark})
    return pd.DataFrame(lines)
