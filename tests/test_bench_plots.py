"""Pictures of a run: units, machine and case in every one, stages stacked, limits only where they were measured."""

from dataclasses import replace

import pytest

from bench.arms import ARMS
from bench.history import Series, history_figure
from bench.plots import STAGE_STYLES, arm_style, clear_middle, limit_figure, stage_figure
from bench.schema import TIMED, Case, Row

CONDITIONS = {"argv": ["python"], "cpu": "A CPU", "cores": 2, "threads": 2, "versions": {},
              "checkpoint": {"hash": "x", "synthetic": True}, "load_average": 0.0,
              "time": "2026-01-02T00:00:00+00:00", "git": {"sha": "0123abcd4567", "dirty": True},
              "rounds": {"asked": 2, "done": 2, "warmup": 0, "interrupted": False}}
LIMITS = {"ceilings": {"read_bytes_per_s": 1e9, "vision_flop_per_s": 1e9, "prefill_flop_per_s": 1e9},
          "work": {"decode_bytes": 5e6, "vision_flops": 4e6, "prefill_flops": 2e6}}


def rows_of(**conditions):
    return [Row(arm, stage, "ok", "", [ms, 1.2 * ms], Case("tiny", "float32", "cpu", 1, 290, 8),
                {**CONDITIONS, **conditions})
            for arm, ms in (("torch-eager", 20.0), ("paddle-fused", 10.0)) for stage in TIMED]


def words(figure):
    """All text of a figure."""
    figure.draw_without_rendering()
    texts = [figure.get_supxlabel(), *(text.get_text() for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [axes.get_xlabel(), axes.get_title("left"), *(text.get_text() for text in axes.texts),
                  *(label.get_text() for label in axes.get_yticklabels())]
    return " ".join(" ".join(texts).split())


@pytest.mark.parametrize("figure, units", [
    (lambda: stage_figure(rows_of()), "(ms)"), (lambda: limit_figure(rows_of(**LIMITS)), "(%)")])
def test_units_and_caption(figure, units):
    text = words(figure())
    for part in (units, "A CPU, 2 cores", "2 CPU threads", "preset tiny", "float32", "synthetic weights", "batch 1",
                 "measured 2026-01-02, git 0123abcd with uncommitted changes", "32 bits, n = 2"):
        assert part in text


def test_the_caption_says_what_makes_figures_worth_less():
    during = {"others_cores": {"min": 1.0, "median": 1.2, "max": 1.5}}
    caption = " ".join(words(stage_figure(rows_of(during=during))).split())
    assert "Incomplete: every arm should have made the same rounds, 10 or more." in caption
    assert "Made: torch-eager 2, paddle-fused 2." in caption
    assert "Other programs used 1.2 of 2 cores while this was measured" in caption


def test_bars_are_the_stages_one_after_the_other():
    axes = stage_figure(rows_of()).axes[0]
    bars = [[(bar.get_x(), bar.get_width()) for bar in made] for made in axes.containers]
    assert len(bars) == len(STAGE_STYLES) and all(x == 0 for x, _ in bars[0])
    for before, after in zip(bars, bars[1:], strict=False):
        assert [x for x, _ in after] == pytest.approx([x + width for x, width in before])
    assert "22 ms" in words(axes.figure) and "11 ms" in words(axes.figure)


def marks(figure):
    """x of the marks at the limits, from top to bottom."""
    return [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == "black"]


def test_the_limit_of_each_arm_is_marked():
    """vision 4 ms, prefill 2 ms, 7 steps of 5 ms, for 8 new tokens; fewer bytes, a nearer limit."""
    rows = rows_of(**LIMITS)
    assert marks(stage_figure(rows)) == pytest.approx([41, 41])
    light = {**LIMITS, "work": {**LIMITS["work"], "decode_bytes": 2e6}}
    rows = [replace(row, provenance={**row.provenance, **light}) if row.arm == "paddle-fused" else row for row in rows]
    assert marks(stage_figure(rows)) == pytest.approx([41, 20])
    assert "limit" in words(stage_figure(rows))


def test_no_limit_is_marked_where_a_part_of_it_is_not_known():
    partial = {**LIMITS, "ceilings": {"read_bytes_per_s": 1e9}}
    for conditions in ({}, partial):
        figure = stage_figure(rows_of(**conditions))
        assert marks(figure) == [] and "limit" not in words(figure)


def test_an_arm_without_figures_says_why():
    rows = [Row(row.arm, row.stage, "oom", "out of memory", [], row.case, row.provenance)
            if row.arm == "torch-eager" else row for row in rows_of()]
    assert "oom" in words(stage_figure(rows))


def test_limits():
    assert limit_figure(rows_of()) is None
    assert "45 %" in words(limit_figure(rows_of(**LIMITS)))  # 5e6 bytes at 1e9 in 11 ms


def test_limits_of_rows_with_gaps():
    """An arm that failed, a ceiling that could not be measured, a stage without a row."""
    rows = [Row(row.arm, row.stage, "failed", "gate failed", [], row.case, row.provenance)
            if row.arm == "torch-eager" else row for row in rows_of(**LIMITS)]
    text = words(limit_figure([row for row in rows if row.stage != "vision"]))
    assert "45 %" in text and "torch-eager 32 bits" not in text and "matrix products" in text
    assert "vision" not in text
    partial = {**LIMITS, "ceilings": {"read_bytes_per_s": 1e9, "vision_reason": "no such device"}}
    assert "45 %" in words(limit_figure(rows_of(**partial)))
    assert limit_figure(rows_of(ceilings={"reason": "torch has no GPU"}, work=LIMITS["work"])) is None


def test_every_arm_of_a_picture_looks_different():
    arms = [*ARMS, *(f"arm {i}" for i in range(40))]
    styles = [arm_style(arm, arms) for arm in arms]
    assert len(set(styles)) == len(arms)
    assert arm_style("torch-eager", arms) == arm_style("torch-eager")


def test_order_of_arms_is_the_registrys():
    rows = [row for arm in ("of old", *reversed(ARMS)) for row in (replace(row, arm=arm) for row in rows_of()[:7])]
    labels = [label.get_text().split("\n")[0] for label in stage_figure(rows).axes[0].get_yticklabels()]
    assert labels == [*ARMS, "of old"]


def test_history():
    lines = [{"date": f"2026-01-{day:02}", "sha": "abc", "dirty": False, "median": 5.0} for day in range(1, 4)]
    text = words(history_figure({Series("m", "", "c", "torch-eager", "end_to_end"): lines}, "m", "c"))
    assert "(ms)" in text and "m; c" in text


@pytest.mark.parametrize("mark, middle", [(None, 15.0), (5.0, 15.0), (18.0, 14.0), (12.0, 16.0)])
def test_a_figure_stands_beside_the_mark(mark, middle):
    assert clear_middle(10.0, 20.0, mark) == middle
