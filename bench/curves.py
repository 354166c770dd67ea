"""The picture of engines over batch and length: throughput of decoding, and the time to a whole answer."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from bench.arms import in_order
from bench.headline import framework
from bench.plots import CAPTION, FONT, WIDTH, arm_style, fill, logarithmic

DASHES = {"paddle": "-", "torch": "--"}   # framework -> its lines, kept apart in grey print; of others:
OTHER_DASHES = "-."
LINE = {"linewidth": 1.6, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}


def answers(frame):
    """A bench.sweep.frame's lines with figures, and `answer_ms`: prefill and all further tokens."""
    known = frame[frame["prefill_ms"].notna() & (frame["step_ms"].notna() | (frame["new_tokens"] == 1))]
    steps = known["step_ms"].where(known["new_tokens"] > 1, 0.0) * (known["new_tokens"] - 1)
    return known.assign(answer_ms=known["prefill_ms"] + steps)


def slices(frame):
    """(lines over batch, lines over length) of `answers`: those of the length that most batches have, and those of the
    least batch. None in the place of one that has a single point."""
    decoded = frame[frame["tokens_per_s"].notna()]
    batches, lengths = decoded.groupby("new_tokens")["batch"].nunique(), frame[frame["batch"] == frame["batch"].min()]
    over_batch = decoded[decoded["new_tokens"] == batches.idxmax()] if batches.max() > 1 else None
    return over_batch, lengths if lengths["new_tokens"].nunique() > 1 else None


def _caption(frame):
    line, counts, commit = frame.iloc[0], sorted(set(frame["n"])), str(frame.iloc[0]["commit"] or "unknown")
    return (f"{line['machine']}; preset {line['preset']}; {line['dtype']}; {line['prompt_tokens']} prompt tokens; "
            f"measured {str(line['date'])[:10]}, git {commit[:8]}{' with uncommitted changes' * commit.endswith('+')}; "
            f"medians, n = {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))}.")


def _panel(axes, lines, x, y, title, x_label, arms):
    for arm in arms:
        points = lines[lines["arm"] == arm].sort_values(x)
        colour, marker = arm_style(arm, arms)
        axes.plot(points[x], points[y], DASHES.get(framework(arm), OTHER_DASHES), color=colour, marker=marker, **LINE)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x_label, fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(lines[x])))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    logarithmic(axes)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def curve_figure(frame):
    """Decode tokens/s over batch beside the time of an answer over its length, a line per arm of a bench.sweep.frame;
    a panel with one point an arm is left out, None without panels."""
    frame = answers(frame)
    over_batch, over_length = slices(frame)
    panels = []
    if over_batch is not None:
        panels.append((over_batch, "batch", "tokens_per_s", "decoded tokens/s; higher is better",
                       f"batch ({over_batch['new_tokens'].iloc[0]} new tokens each)"))
    if over_length is not None:
        panels.append((over_length, "new_tokens", "answer_ms", "prefill and decode (ms); lower is better",
                       f"new tokens (batch {over_length['batch'].iloc[0]})"))
    if not panels:
        return None
    arms, bits = in_order(dict.fromkeys(frame["arm"])), dict(zip(frame["arm"], frame["bits"], strict=True))
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            _panel(axes, *panel, arms)
        figure.legend(axes.lines, [f"{arm}, {bits[arm]} bits" for arm in arms], loc="outside upper left", ncols=3,
                      frameon=False, fontsize=10, handlelength=3)
        figure.supxlabel(fill(_caption(frame)), **CAPTION)
    return figure
