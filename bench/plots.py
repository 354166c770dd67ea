"""Pictures of one run: where the time goes, with the limit marked, and the share of the limits that each stage reaches.

They are made for print: a column is half of WIDTH inches wide, and neither grey paper nor a colour-blind reader loses
what a colour says.
"""

import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from bench.arms import ARMS, in_order
from bench.headline import count, limit_ms, measured_line, median
from bench.limits import LIMITS, shares_of
from bench.lossy import apart
from bench.report import LABELS, arm_state, busy_notes, by_arm, case_line, of_first_case, rounds_notes
from bench.sweep import bits_of

# Okabe and Ito's palette keeps its differences in every kind of colour blindness; hatches keep them in grey print.
STAGE_STYLES = {  # stage -> fill, hatch
    "preprocess": ("#E69F00", "////"), "vision": ("#9AD0F2", ""), "prefill": ("#F0E442", "...."),
    "decode": ("#0072B2", "")}
PART_STYLES = {"vision": "vision", "prefill": "prefill", "token": "decode"}   # part with a limit -> its stage's style
LIMITED_BY = {"vision": "matrix products", "prefill": "matrix products", "token": "memory reads"}
ARM_COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7", "#000000", "#999999", "#882255")
ARM_MARKERS = "os^vDPX*h"
# no mathematics: a dollar sign in a name is one
FONT = {"font.size": 11, "text.parse_math": False, "hatch.linewidth": 0.7}
WIDTH, DPI = 7.2, 200    # inches; points per inch of the files
CAPTION = {"fontsize": 8, "x": 0.01, "ha": "left", "color": "#333333"}
CAPTION_WIDTH = 118      # characters
FEW_DECADES = 8          # ratio of a logarithmic axis' ends below which it has even steps
NEAR_LIMIT = 88          # share (%) from which on a figure stands inside its bar
NARROWEST_LABELLED = 0.05  # share of the longest bar below which a stage has no room for its figure


def arm_style(arm, arms=()):
    """(colour, marker) of one of the `arms` of a picture, by its place in the registry; others come after it."""
    place = in_order({**ARMS, **dict.fromkeys(arms)}).index(arm)
    turned = (place + place // len(ARM_COLOURS)) % len(ARM_COLOURS)   # a colour that comes again has another marker
    return ARM_COLOURS[place % len(ARM_COLOURS)], ARM_MARKERS[turned]


def caption(rows):
    """What the figures hold for, and what they may be worth less for: a picture goes around without its table."""
    return " ".join([f"{case_line(rows)}; {measured_line(rows)}.", *rounds_notes(rows), *busy_notes(rows)])


def fill(text):
    """A caption's text in lines."""
    return textwrap.fill(text, CAPTION_WIDTH, break_on_hyphens=False)


def logarithmic(axes):
    """Make the y axis of drawn lines logarithmic, with plain numbers; even steps where 1, 2, 5 would be too few."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > FEW_DECADES * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _ink(stage):
    """The colour of text on a stage's bar."""
    return "white" if PART_STYLES.get(stage, stage) == "decode" else "black"


def _arms_of(rows):
    """`by_arm` of the gated case in the registry's order, without lossy arms: they compute something else."""
    arms = by_arm(apart(of_first_case(rows))[0])
    return {arm: arms[arm] for arm in in_order(arms)}


def _bars(rows, arms, lines):
    """A figure for a group of `lines` bars of every arm, whose names, bits and numbers of samples stand at the left."""
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(WIDTH, 1.7 + (0.3 + 0.16 * lines) * len(arms)), layout="constrained")
        axes = figure.add_subplot()
        figure.supxlabel(fill(caption(rows)), **CAPTION)
        labels = [f"{arm}\n{bits_of(stages)} bits" + (f", n = {count(stages)}" if count(stages) else "")
                  for arm, stages in arms.items()]
        axes.set_yticks(range(len(arms)), labels, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def clear_middle(begin, end, mark):
    """The middle of a bar's part, of its wider side where a mark stands in it."""
    sides = [(begin, mark), (mark, end)] if mark and begin < mark < end else [(begin, end)]
    return sum(max(sides, key=lambda side: side[1] - side[0])) / 2


def stage_figure(rows):
    """Stacked median latency of the stages, a bar per arm, a mark at its limit; an arm without figures says why."""
    arms = _arms_of(rows)
    figure, axes = _bars(rows, arms, 1)
    ys = range(len(arms))
    with matplotlib.rc_context(FONT):
        medians = {stage: np.array([median(stages, stage) or 0 for stages in arms.values()]) for stage in STAGE_STYLES}
        limits = {y: limit for y, stages in zip(ys, arms.values(), strict=True) if (limit := limit_ms(stages))}
        longest = sum(medians.values()).max(initial=0) or 1
        ends = np.zeros(len(arms))
        for stage, (colour, hatch) in STAGE_STYLES.items():
            axes.barh(ys, medians[stage], left=ends, height=0.6, color=colour, hatch=hatch, edgecolor="#333333",
                      linewidth=0.5, label=stage)
            for y, value in enumerate(medians[stage]):
                if value > NARROWEST_LABELLED * longest:
                    axes.text(clear_middle(ends[y], ends[y] + value, limits.get(y)), y, f"{value:.0f}", ha="center",
                              va="center", fontsize=10, color=_ink(stage),
                              bbox={"facecolor": colour, "edgecolor": "none", "pad": 1})
            ends += medians[stage]
        for y, limit in limits.items():
            axes.plot([limit, limit], [y - 0.42, y + 0.42], color="white", linewidth=4, solid_capstyle="butt")
            axes.plot([limit, limit], [y - 0.42, y + 0.42], color="black", linewidth=2, solid_capstyle="butt")
        for y, (end, stages) in enumerate(zip(ends, arms.values(), strict=True)):
            time, (status, _) = median(stages, "end_to_end"), arm_state(stages)
            text = [f"{time:.0f} ms"] if time else []
            axes.text(end + 0.012 * longest, y, " ".join(text + [status] * (status != "ok")), va="center", ha="left",
                      fontweight="bold" if time else "normal", fontsize=10)
        axes.set_xlim(0, longest * 1.16)
        axes.set_xlabel("end to end (ms), medians; lower is better")
        handles, _ = axes.get_legend_handles_labels()
        if limits:
            handles.append(Line2D([], [], color="black", linewidth=2, marker="|", markersize=12, linestyle="none",
                                  markeredgewidth=2, label="limit at measured rates"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=10,
                      handlelength=1.6, columnspacing=1.2)
    return figure


def limit_figure(rows):
    """Share of the limit measured on the device that each stage reaches, a bar per arm and stage; None without any."""
    arms = {arm: stages for arm, stages in _arms_of(rows).items() if shares_of(stages)}
    shares = {arm: shares_of(stages) for arm, stages in arms.items()}
    parts = [part for part in LIMITS if any(part in share for share in shares.values())]
    if not parts:
        return None
    figure, axes = _bars(rows, arms, len(parts))
    height = 0.84 / len(parts)
    with matplotlib.rc_context(FONT):
        axes.axvline(100, color="black", linewidth=1.5)
        for i, part in enumerate(parts):
            colour, hatch = STAGE_STYLES[PART_STYLES[part]]
            ys = [y + (i - (len(parts) - 1) / 2) * height for y in range(len(shares))]
            values = [100 * share.get(part, 0) for share in shares.values()]
            axes.barh(ys, values, height=height, color=colour, hatch=hatch, edgecolor="#333333", linewidth=0.5,
                      label=f"{LABELS[part]} ({LIMITED_BY[part]})")
            for y, value in zip(ys, values, strict=True):
                inside = NEAR_LIMIT < value <= 100   # beside the bar it would lie on the line
                axes.text(value + (-1 if inside else 1), y, f"{value:.0f} %" if value else "-", va="center", fontsize=9,
                          ha="right" if inside else "left", color=_ink(part) if inside else "black",
                          bbox={"facecolor": colour if inside else "white", "edgecolor": "none", "pad": 0.5})
        axes.set_xlim(0, 1.12 * max(100, *(100 * value for share in shares.values() for value in share.values())))
        axes.set_xlabel("share of the limit measured on this device (%); higher is better")
        figure.legend(loc="outside upper left", ncols=len(parts), frameon=False, fontsize=10, handlelength=1.6,
                      columnspacing=1.2)
    return figure
