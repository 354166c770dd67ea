"""The picture of engines over batch and length: what is drawn of a sweep, and what is not."""

import numpy as np
import pandas as pd
import pytest

from bench.curves import curve_figure
from bench.sweep import COLUMNS
from tests.test_bench_plots import words


def sweep(points, arms=(("torch-compile", 16), ("paddle-fused", 13))):
    """A sweep's frame: a step takes 2 ms in the first arm and 1 ms in the second, the prefill 10 ms."""
    lines = [("a-gpu", "0123456789ab+", "2026-01-02T00:00:00", "7b", "float16", 286, arm, bits, batch, length, 10.0,
              np.nan if length == 1 else ms, np.nan if length == 1 else batch / ms * 1e3, 5, "ok", "")
             for (arm, bits), ms in zip(arms, (2.0, 1.0), strict=True) for batch, length in points]
    return pd.DataFrame(lines, columns=COLUMNS)


POINTS = [(1, 1), (1, 16), (1, 32), (2, 32), (8, 32)]


def lines_of(axes):
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines]


def test_throughput_over_batch_and_time_over_length():
    left, right = curve_figure(sweep(POINTS)).axes
    assert lines_of(left) == [[(1, 500), (2, 1000), (8, 4000)], [(1, 1000), (2, 2000), (8, 8000)]]
    assert lines_of(right) == [[(1, 10), (16, 40), (32, 72)], [(1, 10), (16, 25), (32, 41)]]


def test_units_caption_and_legend():
    text = words(curve_figure(sweep(POINTS)))
    for part in ("decoded tokens/s; higher is better", "batch (32 new tokens each)", "(ms); lower is better",
                 "new tokens (batch 1)", "a-gpu", "7b", "float16", "286 prompt tokens", "n = 5",
                 "measured 2026-01-02, git 01234567 with uncommitted changes", "torch-compile, 16 bits",
                 "paddle-fused, 13 bits"):
        assert part in text


@pytest.mark.parametrize("points, titles", [
    ([(1, 1), (1, 16)], ["prefill and decode"]), ([(1, 16), (4, 16)], ["decoded tokens/s"]), ([(1, 16)], None),
    ([(1, 1)], None)])
def test_a_panel_with_one_point_is_left_out(points, titles):
    figure = curve_figure(sweep(points))
    assert (figure and [axes.get_title("left").split(" (")[0].split(";")[0] for axes in figure.axes]) == titles


def test_lines_without_figures_are_left_out():
    frame = sweep([(1, 16), (4, 16)])
    frame.loc[frame["arm"] == "torch-compile", ["prefill_ms", "step_ms", "tokens_per_s"]] = np.nan
    assert "torch-compile" not in words(curve_figure(frame))
    frame[["prefill_ms", "step_ms", "tokens_per_s"]] = np.nan
    assert curve_figure(frame) is None


def test_axes_have_numbers_whatever_the_range():
    for points in ([(1, 16), (2, 16)], [(1, 16), (64, 16)]):
        figure = curve_figure(sweep(points))
        figure.draw_without_rendering()
        low, high = figure.axes[0].get_ylim()
        assert sum(low <= tick <= high for tick in figure.axes[0].get_yticks()) >= 3
        assert all(label.get_text().isdigit() for label in figure.axes[0].get_yticklabels())
