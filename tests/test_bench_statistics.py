"""Intervals of bench.statistics on launches whose answer is known."""

import numpy as np
import pytest

from bench.statistics import half_width, launch_draws, location_draws, median_half_width, ratio_interval, speed_up


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def launches(rng, median, count, rounds=10, between=0.03, within=0.03):
    """Samples of launches that differ from each other by more than their rounds explain."""
    return [(median * np.exp(rng.normal(0, between) + rng.normal(0, within, rounds))).tolist() for _ in range(count)]


def test_ratio_interval_holds_the_true_ratio(rng):
    baseline, arm = launches(rng, 200, 6), launches(rng, 100, 6)
    ratio, low, high = ratio_interval(baseline, arm)
    assert low < 2 < high and low < ratio < high and high - low < 0.4 and ratio == speed_up(baseline, arm)
    assert ratio_interval(baseline, arm) == (ratio, low, high)


def test_ratio_without_an_interval():
    assert ratio_interval([], [[1.0]]) is None
    # one launch says nothing of how launches differ
    assert ratio_interval([[4.0] * 50], [[2.0] * 50]) == (pytest.approx(2), None, None)


def test_one_launch_is_compared_by_its_median():
    assert speed_up([[4.0, 4.0, 100.0]], [[2.0, 2.0, 50.0]]) == pytest.approx(2)


def test_launches_are_compared_with_those_of_their_time():
    """A machine that becomes slower slows both."""
    drift = np.array([1, 2, 3])
    assert speed_up([[4.0 * d] for d in drift], [[2.0 * d] for d in drift]) == pytest.approx(2)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_ratio_interval_covers_as_often_as_it_says(rng, count):
    """Where launches differ, the rounds inside them do not make it narrow."""
    covered = 0
    for _ in range(100):
        _, low, high = ratio_interval(launches(rng, 100, count), launches(rng, 100, count))
        covered += low <= 1 <= high
    assert covered >= 91


def test_few_launches_say_so_by_their_width(rng):
    widths = []
    for count in (2, 3, 6, 12):
        _, low, high = ratio_interval(launches(rng, 100, count, between=0.01), launches(rng, 100, count, between=0.01))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True) and widths[0] > 3 * widths[1]


@pytest.mark.parametrize("between, within", [(0.05, 0.0), (0.0, 0.05), (0.03, 0.06)])
def test_draws_spread_as_locations_do(rng, between, within):
    """Launches that differ, rounds that do, and both: neither is counted twice."""
    def locations():
        levels = rng.normal(0, between, (40, 1)) + rng.normal(0, within, (40, 8))
        return [launch_draws(launch[:, None], lambda rounds: rounds.mean((-2, -1))) for launch in levels]
    figures, draws = map(np.array, zip(*locations(), strict=True))
    expected = (between ** 2 + within ** 2 / 8) ** 0.5 / 40 ** 0.5
    spread = np.std(location_draws(figures, draws, lambda values: np.mean(values, 1)))
    assert spread == pytest.approx(expected, rel=0.3)


def test_half_width_of_one_launch_is_unknown():
    assert half_width((np.zeros(9), 1)) == np.inf and half_width((np.zeros(9), 2)) == 0


def test_more_launches_of_one_side_make_it_surer(rng):
    draws = rng.normal(0, 1, 400)
    few, many = half_width((draws, 5), (draws, 5)), half_width((draws, 5), (draws / 3, 45))
    assert many < few and half_width((draws, 5)) < half_width((draws, 5), (draws / 3, 45)) * 1.2


def test_median_half_width(rng):
    assert median_half_width(rng.normal(100, 5, 400).tolist()) < 0.01 < median_half_width(
        rng.normal(100, 20, 30).tolist())
    assert median_half_width([1.0, 1.1, 1.2]) == np.inf   # too few for an interval of 95 %
