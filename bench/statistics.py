"""Figures that the tables show, from raw samples."""

import numpy as np


def summary(samples):
    """{"median", "min", "p90", "n"} of a list of samples; None for an empty one."""
    if not samples:
        return None
    return {"median": float(np.median(samples)), "min": float(np.min(samples)),
            "p90": float(np.percentile(samples, 90)), "n": len(samples)}


def speed_up(baseline, samples):
    """How many times faster than the baseline, by medians; None unless both were measured."""
    if not baseline or not samples:
        return None
    return float(np.median(baseline) / np.median(samples))
