"""The accuracy gate: what an arm computes is compared with the reference before anything is timed."""

import numpy as np

# float32: largest allowed |difference| / rms(reference), the limits of the golden data (3e-5 at a feature rms of 0.96,
# 2e-4 at a logit rms of 2.4).
LIMITS = {"image_features": 3e-5 / 0.96, "logits": 2e-4 / 2.4}
HALF_FACTOR = 1.25   # float16 and bfloat16: how far an arm's error may exceed the scale arm's


def limit_of(name, reference):
    """Largest allowed absolute difference of a float32 output, from its scale in the reference."""
    return LIMITS[name] * float(np.sqrt(np.mean(np.square(reference, dtype=np.float64))))


def first_differences(ours, reference):
    """Per row the first step whose token differs, or the number of steps."""
    differ = ours != reference
    return np.where(differ.any(1), differ.argmax(1), ours.shape[1])


def top_gap(logits):
    """Distance of the two best of logits [V]."""
    best = np.partition(logits, -2)[-2:]
    return float(best[1] - best[0])


def _shape_fault(reference, candidate):
    for name in ("image_features", "logits", "tokens"):
        if name == "logits" and name not in candidate:
            continue  # an arm that keeps them is held to its tokens
        if candidate[name].shape != reference[name].shape:
            return (f"{name} has shape {list(candidate[name].shape)}, "
                    f"the reference {list(reference[name].shape)}")
    return ""


def _compared(reference, candidate):
    """(first differing step per row, {output: what of it to compare}): a step's logits see the tokens before it."""
    differs_at = first_differences(candidate["tokens"], reference["tokens"])
    same_input = np.arange(reference["tokens"].shape[1])[None, :] <= differs_at[:, None]
    parts = {"image_features": slice(None), "logits": same_input}
    return differs_at, {name: part for name, part in parts.items() if name in candidate}


def _tokens(reference, candidate, differs_at, undecided_gap):
    """({"equal", "compared", "ties"}, faults): tokens that part where the gap is at most `undecided` are ties."""
    steps = reference["tokens"].shape[1]
    ties, faults = [], []
    for row in np.flatnonzero(differs_at < steps):
        step = int(differs_at[row])
        gap = top_gap(reference["logits"][row, step])
        if gap <= undecided_gap:
            ties.append({"row": int(row), "step": step, "gap": gap})
        else:
            faults.append(f"token {step} of row {row} is {candidate['tokens'][row, step]}, "
                          f"in the reference {reference['tokens'][row, step]}")
    return {"equal": bool((differs_at == steps).all()), "compared": int(np.minimum(differs_at + 1, steps).sum()),
            "ties": ties}, faults


def compare(reference, candidate):
    """Compare an arm's float32 outputs (Arm.outputs) with the reference's.

    Returns {"passed", "reason", "image_features": {"max_abs_difference", "limit"}, "logits": the same, "tokens":
    {"equal", "compared", "ties"}}; of an arm without logits tokens alone are compared. Tokens must be equal; where a
    row's tokens part at a step whose two best reference logits lie closer than twice the logit limit, the step is a tie
    that no arithmetic decides: the row is compared up to there and `tokens.ties` lists it.
    """
    fault = _shape_fault(reference, candidate)
    if fault:
        return {"passed": False, "reason": fault}
    faults, result = [], {}
    differs_at, where = _compared(reference, candidate)
    for name, part in where.items():
        worst = float(np.abs(candidate[name][part] - reference[name][part]).max())
        limit = limit_of(name, reference[name])
        result[name] = {"max_abs_difference": worst, "limit": limit}
        if not worst <= limit:  # also catches NaN
            faults.append(f"{name} differ by {worst:.3g}, limit {limit:.3g}")
    result["tokens"], others = _tokens(reference, candidate, differs_at, 2 * limit_of("logits", reference["logits"]))
    faults += others
    return {"passed": not faults, "reason": "; ".join(faults), **result}


def half_errors(reference, candidate):
    """Errors of half-precision outputs against the float32 reference.

    {"image_features", "logits"}: norm of the difference over the norm; "largest_logit_error": absolute. Logits count
    at the steps whose input tokens agree.
    """
    _, where = _compared(reference, candidate)
    errors = {}
    for name, part in where.items():
        ours, exact = (np.asarray(outputs[name][part], np.float64) for outputs in (candidate, reference))
        errors[name] = float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    if "logits" in where:
        errors["largest_logit_error"] = float(np.abs(ours - exact).max())
    return errors


def compare_half(reference, candidate, scale):
    """Compare an arm's half-precision outputs with the float32 reference over the same weights.

    `scale` are the half_errors of the scale arm in the same dtype: an arm's relative errors may be HALF_FACTOR times
    those, and its tokens must be the reference's wherever the reference's two best logits lie further apart than twice
    the scale arm's largest logit error; others are listed as ties. Returns {"passed", "reason", "image_features":
    {"relative_error", "limit"}, "logits": the same, "largest_logit_error", "tokens"} as `compare` does.
    """
    fault = _shape_fault(reference, candidate)
    if fault:
        return {"passed": False, "reason": fault}
    errors, faults, result = half_errors(reference, candidate), [], {}
    for name in [name for name in ("image_features", "logits") if name in errors]:
        limit = HALF_FACTOR * scale[name]
        result[name] = {"relative_error": errors[name], "limit": limit}
        if not errors[name] <= limit:  # also catches NaN
            faults.append(f"{name} are off by {errors[name]:.3g}, limit {limit:.3g}")
    differs_at, _ = _compared(reference, candidate)
    result["tokens"], others = _tokens(reference, candidate, differs_at, 2 * scale["largest_logit_error"])
    faults += others
    largest = {name: error for name, error in errors.items() if name == "largest_logit_error"}
    return {"passed": not faults, "reason": "; ".join(faults), **result, **largest}


class Judge:
    """The gate of one run. float32: the first arm judged is the reference. Else `reference` are float32 outputs and
    `scale` the half_errors of the scale arm, unless that is among those judged, as `scale_arm`."""

    def __init__(self, dtype, scale_arm, reference=None, scale=None):
        self.half, self.scale_arm = dtype != "float32", scale_arm
        self.reference, self.scale = reference, scale
        self.name = f"{scale_arm} in float32" if self.half or reference is not None else None

    def judge(self, name, outputs):
        """The arm's comparison, as `compare` or `compare_half` return it."""
        if not self.half:
            if self.reference is None and "logits" not in outputs:
                return {"passed": False, "reason": f"no logits to compare {name} with: add the arm torch-eager"}
            if self.reference is None:
                self.reference, self.name = outputs, name
            return compare(self.reference, outputs)
        if self.reference is None:
            return {"passed": False, "reason": "there is no float32 reference to compare with"}
        if self.scale is None and name == self.scale_arm and not _shape_fault(self.reference, outputs):
            self.scale = half_errors(self.reference, outputs)
        if self.scale is None:
            return {"passed": False, "reason": f"{self.scale_arm} gave no error to compare with"}
        return compare_half(self.reference, outputs, self.scale)

    def other_case(self, gate_tokens, tokens):
        """Tokens of another case against those that the same arm made in its gated case (one row, same prompt).

        {"agreement": share of tokens that agree up to the first that does not, "passed", "reason"}: in float32 every
        row must agree with the gated row as far as both go, except from a tie on.
        """
        steps = min(len(gate_tokens), len(tokens[0]))
        expected = np.array([gate_tokens[:steps]] * len(tokens))
        differs_at = first_differences(np.array([row[:steps] for row in tokens]), expected)
        undecided_gap = None if self.half else 2 * limit_of("logits", self.reference["logits"])
        wrong_rows = [row for row in np.flatnonzero(differs_at < steps) if undecided_gap is not None
                      and top_gap(self.reference["logits"][0, differs_at[row]]) > undecided_gap]
        reason = ""
        if wrong_rows:
            reason = f"row {wrong_rows[0]} parts from the single row at token {differs_at[wrong_rows[0]]}"
        return {"agreement": float(differs_at.mean() / steps), "passed": not wrong_rows, "reason": reason}
