"""Intervals and tests of bench.statistics on samples whose answer is known."""

import numpy as np
import pytest

from bench.statistics import (
    location,
    location_half_width,
    location_interval,
    mann_whitney,
    median_half_width,
    ratio_interval,
    shift_interval,
)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_ratio_interval_holds_the_true_ratio(rng):
    baseline, samples = rng.normal(200, 10, 60).tolist(), rng.normal(100, 5, 60).tolist()
    ratio, low, high = ratio_interval(baseline, samples)
    assert low < 2 < high and low < ratio < high and high - low < 0.2
    assert ratio_interval(baseline, samples) == (ratio, low, high)


def test_ratio_without_an_interval():
    assert ratio_interval([], [1.0]) is None
    assert ratio_interval([4.0], [2.0]) == (2.0, None, None)


def test_ratio_interval_covers_as_often_as_it_says(rng):
    covered = 0
    for _ in range(60):
        _, low, high = ratio_interval(rng.lognormal(0, 0.1, 30).tolist(), rng.lognormal(0, 0.1, 30).tolist())
        covered += low <= 1 <= high
    assert covered >= 52


def test_median_half_width(rng):
    assert median_half_width(rng.normal(100, 5, 400).tolist()) < 0.01 < median_half_width(
        rng.normal(100, 20, 30).tolist())
    assert median_half_width([1.0, 1.1, 1.2]) == np.inf   # too few for an interval of 95 %


def test_location_ignores_bursts(rng):
    quiet = rng.normal(0, 0.1, 95)
    assert location(np.concatenate([quiet, np.full(5, 30.0)])) == pytest.approx(location(quiet), abs=0.02)


def test_location_interval_and_its_quick_half_width_agree(rng):
    differences = rng.normal(0.05, 0.1, 200)
    low, high = location_interval(differences)
    assert low < 0.05 < high
    assert location_half_width(differences) == pytest.approx((high - low) / 2, rel=0.15)


def test_shift_interval(rng):
    low, high = shift_interval(rng.normal(0, 0.1, 200), rng.normal(0.1, 0.1, 150))
    assert 0 < low < 0.1 < high


def test_mann_whitney(rng):
    assert mann_whitney(rng.normal(0, 1, 50), rng.normal(2, 1, 50)) < 1e-6
    assert mann_whitney([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == pytest.approx(1.0)
