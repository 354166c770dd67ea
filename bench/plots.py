"""Plots from rows: where the time goes, and how much faster each arm is."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bench.arms import ARMS, BASELINES, in_order
from bench.report import (
    LABELS,
    arm_state,
    baselines,
    busy_notes,
    by_arm,
    conditions_line,
    has_intervals,
    interval_of,
    rounds_notes,
    shares_of,
    speed_up_of,
)
from bench.statistics import summary

# Okabe and Ito's palette keeps its differences in every kind of colour blindness; hatches keep them in grey print.
STAGE_STYLES = {  # stage -> fill, hatch, text
    "preprocess": ("#E69F00", "//", "black"), "vision": ("#56B4E9", "", "black"),
    "prefill": ("#F0E442", "\\\\", "black"), "decode": ("#0072B2", "", "white")}
LIMITED = {"vision": "matrix products", "prefill": "matrix products", "token": "memory reads"}   # stage -> its limit
ARM_COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7", "#000000", "#999999", "#882255")
ARM_MARKERS = "os^vDPX*h"
ARM_HATCHES = ("//", "", "\\\\", "..", "xx", "--", "++", "oo", "**")
# no mathematics: a dollar sign in a name is one
FONT = {"font.size": 11, "text.parse_math": False, "axes.titlesize": 12, "hatch.linewidth": 0.6}
CAPTION_WIDTH = 130
NARROWEST_LABELLED = 0.05  # share of the longest bar below which a stage has no room for its figure


def arm_style(arm, arms=()):
    """(colour, marker, hatch) of one of the `arms` of a picture, by its place in the registry; others come after it."""
    place = in_order({**ARMS, **dict.fromkeys(arms)}).index(arm)
    turned = (place + place // len(ARM_COLOURS)) % len(ARM_COLOURS)   # a colour that comes again has another marker
    return ARM_COLOURS[place % len(ARM_COLOURS)], ARM_MARKERS[turned], ARM_HATCHES[turned]


def _arms_of(rows):
    """`by_arm` in the registry's order."""
    arms = by_arm(rows)
    return {arm: arms[arm] for arm in in_order(arms)}


def _caption(rows):
    """What the figures hold for, and what they may be worth less for: a picture goes around without its table."""
    return " ".join([f"{conditions_line(rows)}.", *rounds_notes(rows), *busy_notes(rows)])


def _figure(rows, bars):
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(9, 2.6 + 0.55 * bars), layout="constrained")
        axes = figure.add_subplot()
        figure.supxlabel(textwrap.fill(_caption(rows), CAPTION_WIDTH), fontsize=9, x=0.01, ha="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _label_arms(axes, arms):
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def stage_figure(rows):
    """Stacked median latency of the stages, a bar per arm; an arm without figures says why."""
    arms = _arms_of(rows)
    figure, axes = _figure(rows, len(arms))
    with matplotlib.rc_context(FONT):
        medians = {stage: np.array([(summary(stages[stage].samples) or {"median": 0})["median"]
                                    for stages in arms.values()]) for stage in STAGE_STYLES}
        longest = sum(medians.values()).max() or 1
        ends = np.zeros(len(arms))
        for stage, (colour, hatch, ink) in STAGE_STYLES.items():
            bars = axes.barh(range(len(arms)), medians[stage], left=ends, height=0.62, color=colour, hatch=hatch,
                             edgecolor="white" if ink == "white" else "#555555", linewidth=0.5, label=stage)
            wide = [f"{value:.0f}" if value > NARROWEST_LABELLED * longest else "" for value in medians[stage]]
            for label in axes.bar_label(bars, wide, label_type="center", color=ink, fontsize=10):
                if label.get_text():
                    label.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1})
            ends += medians[stage]
        for y, (end, stages) in enumerate(zip(ends, arms.values(), strict=True)):
            figures, (status, _) = summary(stages["end_to_end"].samples), arm_state(stages)
            text = f" {figures['median']:.0f} ms" if figures else ""
            axes.text(end, y, text + ("" if status == "ok" else f" {status}"), va="center", ha="left")
        axes.set_xlim(0, longest * 1.14)
        _label_arms(axes, list(arms))
        axes.set_xlabel("latency (ms), median of each stage and end to end; lower is better")
        figure.legend(loc="outside upper left", ncols=len(STAGE_STYLES), frameon=False)
    return figure


def speed_up_figure(rows):
    """Speed-up end to end with its interval against each baseline, and a line at 1x."""
    arms = _arms_of(rows)
    figure, axes = _figure(rows, len(arms))
    references = baselines(arms) or BASELINES[:1]
    height = 0.72 / len(references)
    with matplotlib.rc_context(FONT):
        longest = 1.0
        for i, baseline in enumerate(references):
            colour, _, hatch = arm_style(baseline)
            for y, arm in enumerate(arms):
                factor, bar_y = speed_up_of(arms, arm, baseline), y + (i - (len(references) - 1) / 2) * height
                interval = interval_of(arms, arm, baseline)
                end = 0
                if isinstance(factor, float):
                    end = max(factor, interval[1] if interval else 0)
                    longest = max(longest, end)
                    axes.barh(bar_y, factor, height=height, color=colour, hatch=hatch, edgecolor="white")
                if interval:
                    axes.errorbar(factor, bar_y, xerr=[[max(0, factor - interval[0])], [max(0, interval[1] - factor)]],
                                  color="black", capsize=3, linewidth=1.2, zorder=4)
                text = f" {factor:.2f}x" if isinstance(factor, float) else f" {textwrap.shorten(factor or '-', 60)}"
                axes.text(end + 0.01 * longest, bar_y, text, va="center", ha="left", fontsize=10,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=3)
            axes.barh([0], [0], color=colour, hatch=hatch, edgecolor="white", label=f"against {baseline}")
        axes.axvline(1, color="black", linewidth=1.2, linestyle="--")
        axes.set_xlim(0, longest * 1.14)
        _label_arms(axes, list(arms))
        interval = ", 95 % interval" if has_intervals(rows) else ""
        axes.set_xlabel(f"speed-up end to end (x, ratio of medians{interval}); higher is better; dashed: 1x")
        figure.legend(loc="outside upper left", ncols=len(references), frameon=False)
    return figure


def limit_figure(rows):
    """Share of the device's measured limit that each stage reaches, a bar per arm and stage; None without limits."""
    shares = {arm: shares_of(stages) for arm, stages in _arms_of(rows).items()}
    stages = [stage for stage in LIMITED if any(stage in share for share in shares.values())]
    if not stages:
        return None
    figure, axes = _figure(rows, len(shares))
    height = 0.8 / len(stages)
    styles = {"vision": "vision", "prefill": "prefill", "token": "decode"}
    with matplotlib.rc_context(FONT):
        for i, stage in enumerate(stages):
            colour, hatch, _ = STAGE_STYLES[styles[stage]]
            bar_ys = [y + (i - (len(stages) - 1) / 2) * height for y in range(len(shares))]
            values = [100 * share.get(stage, 0) for share in shares.values()]
            bars = axes.barh(bar_ys, values, height=height, color=colour, hatch=hatch, edgecolor="#555555",
                             linewidth=0.5, label=f"{LABELS[stage]} ({LIMITED[stage]})")
            axes.bar_label(bars, [f" {value:.0f} %" if value else " -" for value in values], fontsize=10)
        axes.axvline(100, color="black", linewidth=1.2, linestyle="--")
        axes.set_xlim(0, 1.1 * max(100, *(100 * value for share in shares.values() for value in share.values())))
        _label_arms(axes, list(shares))
        axes.set_xlabel("share of the limit measured on this device (%); higher is better; dashed: the limit")
        figure.legend(loc="outside upper left", ncols=len(stages), frameon=False)
    return figure
