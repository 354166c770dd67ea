"""Pictures: units on every axis, machine and case in the caption, limits only where they were measured."""

from dataclasses import replace

import pytest

from bench.arms import ARMS
from bench.cases import length_figure, throughput_figure
from bench.history import Series, history_figure
from bench.plots import arm_style, limit_figure, speed_up_figure, stage_figure
from bench.schema import TIMED, Case, Row

CONDITIONS = {"argv": ["python"], "cpu": "A CPU", "cores": 2, "threads": 2, "versions": {},
              "checkpoint": {"hash": "x", "synthetic": True}, "load_average": 0.0,
              "rounds": {"asked": 2, "done": 2, "warmup": 0, "interrupted": False}}
LIMITS = {"ceilings": {"read_bytes_per_s": 1e9, "vision_flop_per_s": 1e9, "prefill_flop_per_s": 1e9},
          "work": {"decode_bytes": 5e6, "vision_flops": 4e6, "prefill_flops": 2e6}}


def rows_of(lengths=(8,), **conditions):
    return [Row(arm, stage, "ok", "", [ms, 1.2 * ms], Case("tiny", "float32", "cpu", 1, 290, length),
                {**CONDITIONS, **conditions})
            for length in lengths for arm, ms in (("torch-eager", 20.0), ("paddle-fused", 10.0)) for stage in TIMED]


def words(figure):
    """All text of a figure."""
    figure.draw_without_rendering()
    axes = figure.axes[0]
    return " ".join([axes.get_xlabel(), axes.get_ylabel(), figure.get_supxlabel(),
                     *(text.get_text() for text in axes.texts)])


@pytest.mark.parametrize("figure, units", [
    (lambda: stage_figure(rows_of()), "(ms)"), (lambda: speed_up_figure(rows_of()), "1x"),
    (lambda: limit_figure(rows_of(**LIMITS)), "(%)"), (lambda: length_figure(rows_of((8, 1, 16))), "(ms)"),
    (lambda: throughput_figure(rows_of((8, 1, 16))), "tokens/s")])
def test_units_and_caption(figure, units):
    text = words(figure())
    assert units in text
    for part in ("A CPU", "2 CPU threads", "preset tiny", "float32", "batch 1"):
        assert part in text


def test_the_caption_says_what_makes_figures_worth_less():
    caption = " ".join(words(speed_up_figure(rows_of(load_average=5.0))).split())
    assert "Incomplete: every arm should have made the same rounds, 10 or more." in caption
    assert "Made: torch-eager 2, paddle-fused 2." in caption
    assert "Other programs were busy when this began (load average 5.0 on 2 cores)" in caption


def test_speed_up_has_an_interval_and_a_line_at_one():
    figure = speed_up_figure(rows_of())
    assert "2.00x" in words(figure) and "95 % interval" in words(figure)
    axes = figure.axes[0]
    assert any(list(line.get_xdata()) == [1, 1] for line in axes.lines)
    assert any(type(made).__name__ == "ErrorbarContainer" for made in axes.containers)


def test_no_interval_is_promised_where_there_is_none():
    figure = speed_up_figure([replace(row, samples=row.samples[:1]) for row in rows_of()])
    assert "2.00x" in words(figure) and "interval" not in words(figure)


def test_limits():
    assert limit_figure(rows_of()) is None
    assert "45 %" in words(limit_figure(rows_of(**LIMITS)))  # 5e6 bytes at 1e9 in 11 ms


def test_length_bands_reach_from_least_to_p90():
    band, *_ = length_figure(rows_of((8, 1, 16))).axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(20) and heights.max() == pytest.approx(20 + 0.9 * 4)


def test_limits_of_rows_with_gaps():
    """An arm that failed, a ceiling that could not be measured, a stage without a row."""
    rows = [Row(row.arm, row.stage, "failed", "gate failed", [], row.case, row.provenance)
            if row.arm == "torch-eager" else row for row in rows_of(**LIMITS)]
    text = words(limit_figure([row for row in rows if row.stage != "vision"]))
    assert "45 %" in text and " - " in text
    partial = {**LIMITS, "ceilings": {"read_bytes_per_s": 1e9, "vision_reason": "no such device"}}
    assert "45 %" in words(limit_figure(rows_of(**partial)))
    assert limit_figure(rows_of(ceilings={"reason": "torch has no GPU"}, work=LIMITS["work"])) is None


def test_every_arm_of_a_picture_looks_different():
    arms = [*ARMS, *(f"arm {i}" for i in range(40))]
    styles = [arm_style(arm, arms) for arm in arms]
    for with_colour in (1, 2):   # marker, hatch
        assert len({(style[0], style[with_colour]) for style in styles}) == len(arms)
    assert arm_style("torch-eager", arms) == arm_style("torch-eager")


def test_order_of_arms_is_the_registrys():
    rows = [row for arm in ("of old", *reversed(ARMS)) for row in (replace(row, arm=arm) for row in rows_of()[:7])]
    for figure in (stage_figure(rows), speed_up_figure(rows)):
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [*ARMS, "of old"]
    legend, = length_figure(rows).legends
    assert [label.get_text() for label in legend.get_texts()] == [*ARMS, "of old"]


def test_history():
    lines = [{"date": f"2026-01-{day:02}", "sha": "abc", "dirty": False, "median": 5.0} for day in range(1, 4)]
    text = words(history_figure({Series("m", "c", "torch-eager", "end_to_end"): lines}, "m", "c"))
    assert "(ms)" in text and "m; c" in text
