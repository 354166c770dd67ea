"""Figures and intervals that tables and verdicts show, from raw samples in launches. Everything random is seeded.

Samples of one process share its luck, so the process is the unit: intervals resample launches, and inside them rounds.
"""

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 250   # only their variance is used
LAUNCHES_AT_LEAST = 2   # below, nothing is known of how launches differ
SEED = 20240501


def summary(samples):
    """{"median", "min", "p90", "p99", "n"} of a list of samples; None for an empty one."""
    if not len(samples):
        return None
    return {"median": float(np.median(samples)), "min": float(np.min(samples)),
            "p90": float(np.percentile(samples, 90)), "p99": float(np.percentile(samples, 99)), "n": len(samples)}


def launch_draws(rounds, figure):
    """(figure of one launch, RESAMPLES figures of it with its rounds drawn anew).

    rounds: [rounds, …]; figure(rounds) is computed over the last two axes of [draws, rounds, …].
    """
    rounds = np.asarray(rounds, float)
    drawn = np.random.default_rng(SEED).integers(len(rounds), size=(RESAMPLES, len(rounds)))
    return figure(rounds[None])[0], figure(rounds[drawn])


def location_draws(figures, draws, location, seed=SEED):
    """RESAMPLES locations of a side, its launches drawn anew and each with its rounds drawn anew.

    figures [launches, …] and draws [launches, RESAMPLES, …] are those of `launch_draws`; location(values) works along
    axis 1. Figures of launches differ by what launches differ and by what their rounds left to chance. Drawing the
    rounds anew brings the second in once more, so it is taken out of the first: what launches differ is shrunk by it.
    """
    rng = np.random.default_rng(seed)
    shape = RESAMPLES, len(figures)
    launches, rounds = rng.integers(len(figures), size=shape), rng.integers(RESAMPLES, size=shape)
    centre, spread = figures.mean(0), figures.var(0, ddof=1) if len(figures) > 1 else np.zeros_like(figures[0])
    by_rounds = draws.var(1).mean(0)
    share = np.divide(by_rounds, spread, out=np.ones_like(spread), where=spread > by_rounds)
    shrunk = centre + np.sqrt(1 - share) * (figures - centre)
    return location(shrunk[launches] + (draws - draws.mean(1, keepdims=True))[launches, rounds])


def half_width(*sides, confidence=CONFIDENCE):
    """Half the width of an interval of the difference of independent sides, (draws, number of launches) each.

    Resampling n launches shows (n - 1) / n of their variance, and with few of them the variance itself is uncertain:
    Student's t says by how much, with the degrees of freedom of Welch and Satterthwaite.
    """
    if min(launches for _, launches in sides) < LAUNCHES_AT_LEAST:
        return np.inf
    launches = np.array([launches for _, launches in sides])
    variances = np.array([np.var(draws) for draws, _ in sides]) * launches / (launches - 1)
    if not variances.any():
        return 0.0
    freedom = variances.sum() ** 2 / (variances ** 2 / (launches - 1)).sum()
    return float(stats.t.ppf((1 + confidence) / 2, freedom) * variances.sum() ** 0.5)


def median_half_width(samples):
    """Half the width of the median's distribution-free interval over the median; inf with too few samples for one."""
    if len(samples) < 2:
        return np.inf
    median = float(np.median(samples))
    interval = stats.quantile_test(samples, q=median, p=0.5).confidence_interval(CONFIDENCE)
    width = (interval.high - interval.low) / 2 / median
    return float(width) if np.isfinite(width) else np.inf


def _log_medians(launches):
    """Logs of the medians of launches, [launches], and of those with their rounds drawn anew, [launches, RESAMPLES]."""
    figures, draws = zip(*(launch_draws(np.reshape(samples, [-1, 1]), lambda rounds: np.median(rounds, (-2, -1)))
                           for samples in launches), strict=True)
    return np.log(figures), np.log(draws)


def speed_up(baseline, launches):
    """How many times faster than the baseline, by medians: both are lists of launches, the samples of each.

    The mean over the launches, geometric, each beside the baseline's of the same time. None unless both were measured.
    """
    pairs = min(len(baseline), len(launches))
    if not pairs:
        return None
    medians = [[np.median(samples) for samples in side[:pairs]] for side in (baseline, launches)]
    return float(np.exp(np.mean(np.log(medians[0]) - np.log(medians[1]))))


def ratio_interval(baseline, launches):
    """(speed_up, low, high), the interval from pairs of launches; None unless both were measured.

    low and high are None where one of them has fewer than LAUNCHES_AT_LEAST launches.
    """
    ratio, pairs = speed_up(baseline, launches), min(len(baseline), len(launches))
    if ratio is None or pairs < LAUNCHES_AT_LEAST:
        return ratio and (ratio, None, None)
    figures, draws = (theirs - ours for theirs, ours in zip(_log_medians(baseline[:pairs]),
                                                            _log_medians(launches[:pairs]), strict=True))
    width = half_width((location_draws(figures, draws, lambda values: np.mean(values, 1)), pairs))
    return ratio, float(ratio * np.exp(-width)), float(ratio * np.exp(width))
