"""Figures, intervals and tests that tables and verdicts show, from raw samples. Everything random is seeded."""

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 999
TRIMMED = 0.1    # share of pairs cut at each end: bursts of other programs are rarer
SEED = 20240501


def summary(samples):
    """{"median", "min", "p90", "p99", "n"} of a list of samples; None for an empty one."""
    if not len(samples):
        return None
    return {"median": float(np.median(samples)), "min": float(np.min(samples)),
            "p90": float(np.percentile(samples, 90)), "p99": float(np.percentile(samples, 99)), "n": len(samples)}


def speed_up(baseline, samples):
    """How many times faster than the baseline, by medians; None unless both were measured."""
    if not baseline or not samples:
        return None
    return float(np.median(baseline) / np.median(samples))


def _bootstrap(data, statistic, **options):
    """(low, high) of the percentile bootstrap; `statistic` takes samples on its last axis."""
    interval = stats.bootstrap(data, statistic, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
                               rng=np.random.default_rng(SEED), **options).confidence_interval
    return float(interval.low), float(interval.high)


def ratio_interval(baseline, samples):
    """(ratio, low, high): median of the baseline over median of the samples, bootstrap interval of both resampled.

    None unless both were measured; low and high are None where one of them has fewer than two samples.
    """
    ratio = speed_up(baseline, samples)
    if ratio is None or min(len(baseline), len(samples)) < 2:
        return ratio and (ratio, None, None)
    return ratio, *_bootstrap((baseline, samples), lambda a, b, axis: np.median(a, axis) / np.median(b, axis))


def median_half_width(samples):
    """Half the width of the median's distribution-free interval over the median; inf with too few samples for one."""
    if len(samples) < 2:
        return np.inf
    median = float(np.median(samples))
    interval = stats.quantile_test(samples, q=median, p=0.5).confidence_interval(CONFIDENCE)
    width = (interval.high - interval.low) / 2 / median
    return float(width) if np.isfinite(width) else np.inf


def location(differences):
    """Trimmed mean of paired differences."""
    return float(stats.trim_mean(differences, TRIMMED))


def location_half_width(differences):
    """Half the width of `location`'s interval by its standard error: quick enough to be asked while measuring."""
    return float(stats.norm.ppf((1 + CONFIDENCE) / 2) * stats.mstats.trimmed_stde(differences, (TRIMMED, TRIMMED)))


def location_interval(differences):
    """(low, high) of `location`, by bootstrap over the pairs; two or more."""
    return _bootstrap((differences,), lambda d, axis: stats.trim_mean(d, TRIMMED, axis=axis))


def shift_interval(first, second):
    """(low, high) of location(second) - location(first) of two independent sets of differences."""
    return _bootstrap((first, second), lambda a, b, axis: stats.trim_mean(b, TRIMMED, axis=axis)
                      - stats.trim_mean(a, TRIMMED, axis=axis))


def mann_whitney(baseline, samples):
    """Two-sided p-value that both come from one distribution; the pairing of rounds is not used."""
    return float(stats.mannwhitneyu(baseline, samples).pvalue)
