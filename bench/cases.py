"""The further cases of a run beside the gated one: table, latency against output length, tokens/s against batch."""

import textwrap

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from bench.arms import in_order
from bench.plots import FONT, arm_style
from bench.report import arm_state, by_arm, conditions_line, markdown_table, markdown_text
from bench.statistics import summary

CAPTION_WIDTH = 110
FIGURES = {"end_to_end": "end to end (ms)", "ttft": "TTFT (ms)", "token": "decode / token (ms)"}


def has_cases(rows):
    """Whether there are others than the gated case."""
    return any(row.case != rows[0].case for row in rows)


def _median(stages, stage):
    figures = summary(stages[stage].samples) if stage in stages else None
    return None if figures is None or stages["end_to_end"].reason.startswith("gate failed") else figures["median"]


def case_lines(rows):
    """A dict per case and arm, ordered by batch, new tokens and arm: status, medians (ms), tokens per second."""
    cases = {}
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    lines = []
    for case in sorted(cases, key=lambda case: (case.batch, case.new_tokens)):
        for arm, stages in by_arm(cases[case]).items():
            status, reason = arm_state(stages)
            line = {"batch": case.batch, "new_tokens": case.new_tokens, "arm": arm, "status": status, "reason": reason}
            line |= {f"{stage}_ms": _median(stages, stage) for stage in FIGURES}
            figures = summary(stages["end_to_end"].samples) if line["end_to_end_ms"] is not None else None
            line |= {f"end_to_end_{name}_ms": figures[name] if figures else None for name in ("min", "p90")}
            end_to_end_ms, token_ms = line["end_to_end_ms"], line["token_ms"]
            line["tokens_per_s"] = case.batch * case.new_tokens / end_to_end_ms * 1e3 if end_to_end_ms else None
            line["decode_tokens_per_s"] = case.batch / token_ms * 1e3 if token_ms else None
            line["compile_ms"] = _median(stages, "compile")
            lines.append(line)
    return lines


def cases_frame(rows):
    return pd.DataFrame(case_lines(rows))


def cases_markdown(rows):
    """One table: a line per case and arm."""
    columns = {**{f"{stage}_ms": label for stage, label in FIGURES.items()}, "tokens_per_s": "tokens/s, end to end",
               "decode_tokens_per_s": "tokens/s, decode", "compile_ms": "compile (ms)"}
    lines = case_lines(rows)
    if all(line["compile_ms"] is None for line in lines):
        del columns["compile_ms"]
    texts = [{"new tokens": str(line["new_tokens"]), "arm": line["arm"], "status": line["status"],
              **{label: "-" if line[name] is None else f"{line[name]:.2f}" for name, label in columns.items()}}
             for line in lines]
    frame = pd.DataFrame(texts, index=[str(line["batch"]) for line in lines])
    reasons = [f"Batch {line['batch']}, {line['new_tokens']} new tokens, {line['arm']}: {line['status']}: "
               f"{line['reason']}" for line in lines if line["reason"]]
    return "\n\n".join([markdown_text(f"The gated case: {conditions_line(rows)}"), markdown_table(frame, "batch"),
                        "Medians; the other cases have fewer rounds, one arm after the other.",
                        *map(markdown_text, reasons)]) + "\n"


def _line_figure(rows, lines, x, y, labels, band=None):
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        arms = in_order(dict.fromkeys(line["arm"] for line in lines))
        for arm in arms:
            points = [(line[x], line[y]) for line in lines if line["arm"] == arm and line[y] is not None]
            if points:
                colour, marker, _ = arm_style(arm, arms)
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=arm)
                if band:
                    xs, low, high = zip(*((line[x], line[band[0]], line[band[1]]) for line in lines
                                          if line["arm"] == arm and line[y] is not None), strict=True)
                    axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_ylim(bottom=0)
        axes.set_xticks(sorted({line[x] for line in lines}))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
        caption = f"gated case: {conditions_line(rows)}; others: fewer rounds"
        figure.supxlabel(textwrap.fill(caption, CAPTION_WIDTH), fontsize=8, x=0.01, ha="left")
    return figure


def length_figure(rows):
    """Latency end to end against the number of new tokens, at the gated case's batch."""
    lines = [line for line in case_lines(rows) if line["batch"] == rows[0].case.batch]
    return _line_figure(rows, lines, "new_tokens", "end_to_end_ms",
                        ("new tokens (points: medians; bands: min..p90)", "latency end to end (ms); lower is better"),
                        ("end_to_end_min_ms", "end_to_end_p90_ms"))


def throughput_figure(rows):
    """Decode throughput against the batch, at the gated case's number of new tokens."""
    lines = [line for line in case_lines(rows) if line["new_tokens"] == rows[0].case.new_tokens]
    return _line_figure(rows, lines, "batch", "decode_tokens_per_s",
                        ("batch", "decode tokens/s, median; higher is better"))
