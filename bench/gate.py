"""The accuracy gate: what an arm computes is compared with the reference arm before anything is timed."""

import numpy as np

# Largest allowed |difference| / rms(reference). float32: the limits of the golden data (3e-5 at a feature rms of 0.96,
# 2e-4 at a logit rms of 2.4). bfloat16: twice what rounding the golden weights to it does (0.055 and 0.23);
# float16 has three bits more.
LIMITS = {
    "float32": {"image_features": 3e-5 / 0.96, "logits": 2e-4 / 2.4},
    "bfloat16": {"image_features": 2 * 0.055 / 0.96, "logits": 2 * 0.23 / 2.4},
    "float16": {"image_features": 2 * 0.055 / 0.96 / 8, "logits": 2 * 0.23 / 2.4 / 8},
}


def limit_of(name, reference, dtype):
    """Largest allowed absolute difference of an output, from its scale in the reference."""
    return LIMITS[dtype][name] * float(np.sqrt(np.mean(np.square(reference, dtype=np.float64))))


def first_differences(ours, reference):
    """Per row the first step whose token differs, or the number of steps."""
    differ = ours != reference
    return np.where(differ.any(1), differ.argmax(1), ours.shape[1])


def compare(reference, candidate, dtype):
    """Compare an arm's outputs (Arm.outputs) with the reference's.

    Returns {"passed", "reason", "image_features": {"max_abs_difference", "limit"}, "logits": the same,
    "tokens": {"equal", "compared"}}. Tokens must be equal; where a row's tokens part at a step whose two best
    reference logits lie closer than twice the logit limit, the step is a tie that no arithmetic decides: the row is
    compared up to there and `tokens.ties` lists it.
    """
    for name in ("image_features", "logits", "tokens"):
        if candidate[name].shape != reference[name].shape:
            return {"passed": False, "reason": f"{name} has shape {list(candidate[name].shape)}, "
                                               f"the reference {list(reference[name].shape)}"}
    faults, result = [], {}
    steps = reference["tokens"].shape[1]
    parted = first_differences(candidate["tokens"], reference["tokens"])
    same_input = np.arange(steps)[None, :] <= parted[:, None]  # a step sees the tokens before it
    for name, where in (("image_features", slice(None)), ("logits", same_input)):
        worst = float(np.abs(candidate[name][where] - reference[name][where]).max())
        limit = limit_of(name, reference[name], dtype)
        result[name] = {"max_abs_difference": worst, "limit": limit}
        if not worst <= limit:  # also catches NaN
            faults.append(f"{name} differ by {worst:.3g}, limit {limit:.3g}")
    ties = []
    for row in np.flatnonzero(parted < steps):
        step = int(parted[row])
        best = np.sort(reference["logits"][row, step])[-2:]
        gap = float(best[1] - best[0])
        if gap <= 2 * result["logits"]["limit"]:
            ties.append({"row": int(row), "step": step, "gap": gap})
        else:
            faults.append(f"token {step} of row {row} is {candidate['tokens'][row, step]}, "
                          f"in the reference {reference['tokens'][row, step]}")
    result["tokens"] = {"equal": bool((parted == steps).all()), "compared": int(np.minimum(parted + 1, steps).sum()),
                        "ties": ties}
    return {"passed": not faults, "reason": "; ".join(faults), **result}
