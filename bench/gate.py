"""The accuracy gate: what an arm computes is compared with the reference before anything is timed."""

import numpy as np

# float32: largest allowed |difference| / rms(reference), the limits of the golden data (3e-5 at a feature rms of 0.96,
# 2e-4 at a logit rms of 2.4).
LIMITS = {"image_features": 3e-5 / 0.96, "logits": 2e-4 / 2.4}
LOSSY_KL = 1.0       # nats: weights in 4 bits cost some hundredths, a wrong kernel several
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


def compare_lossy(reference, candidate):
    """What an arm with lossy weights makes of the reference's inputs, and whether that can be rounding at all.

    {"passed", "reason", "lossy": {"kl": mean Kullback-Leibler divergence in nats, None without logits, "top1": share of
    the likeliest tokens that are the reference's, "steps": over which}}: the steps whose input tokens agree.
    """
    fault = _shape_fault(reference, candidate)
    if fault:
        return {"passed": False, "reason": fault}
    differs_at, where = _compared(reference, candidate)
    steps = np.minimum(differs_at + 1, reference["tokens"].shape[1]).sum()
    kl, faults = None, []
    if "logits" in where:
        exact, ours = (_log_softmax(outputs["logits"][where["logits"]]) for outputs in (reference, candidate))
        kl = float((np.exp(exact) * (exact - ours)).sum(-1).mean())
        if not kl <= LOSSY_KL:  # also catches NaN
            faults.append(f"logits diverge by {kl:.3g} nats, which is no rounding (limit {LOSSY_KL})")
    if not np.isfinite(candidate["image_features"]).all():
        faults.append("image_features are not finite")
    return {"passed": not faults, "reason": "; ".join(faults),
            "lossy": {"kl": kl, "top1": float(differs_at.sum() / steps), "steps": int(steps)}}


def divergence(reference, logits):
    """(mean Kullback-Leibler divergence in nats, share of equal likeliest tokens) of logits [positions, V]."""
    kl, same = 0.0, 0
    for exact, ours in zip(reference, logits, strict=True):
        p, q = _log_softmax(exact), _log_softmax(ours)
        kl += float((np.exp(p) * (p - q)).sum())
        same += int(p.argmax() == q.argmax())
    return kl / len(logits), same / len(logits)


def _log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Judge:
    """The gate of one run. float32: the first arm judged is the reference, unless there is one of more tokens.

    Else `reference` are float32 outputs, of at least as many tokens as the gated case has, and `scale` the half_errors
    of the scale arm, unless that is among those judged, as `scale_arm`.
    """

    def __init__(self, dtype, scale_arm, reference=None, scale=None, rounded=None, text=None):
        """rounded: {arm: float32 outputs over the numbers that it rounds matrices to}, with which it is held to the
        arithmetic; text: (token ids, float32 logits of all their positions), with which what rounding costs is told.
        """
        self.rounded = {arm: Judge(dtype, scale_arm, outputs, scale) for arm, outputs in (rounded or {}).items()}
        self.text_ids, self._text = text or ([], None)
        self.half, self.scale_arm = dtype != "float32", scale_arm
        self.reference, self.scale = reference, scale
        self.name = f"{scale_arm} in float32" if self.half or reference is not None else None

    def is_rounded(self, name):
        """Whether an arm is held to its own rounded numbers."""
        return name in self.rounded

    def text_cost(self, logits):
        """{"text_kl", "text_top1", "text_positions"} of an arm's logits of the text."""
        if self._text is None:
            return {}
        kl, same = divergence(self._text, logits)
        return {"text_kl": kl, "text_top1": same, "text_positions": len(logits)}

    def judge(self, name, outputs, lossy=False):
        """The arm's comparison, as `compare`, `compare_half` or `compare_lossy` return it; both of an arm that is held
        to its own rounded numbers."""
        if self.is_rounded(name):
            own = self.rounded[name]
            own.scale = own.scale or self.scale
            if own.reference is None or self.reference is None:
                return {"passed": False, "reason": "there is no float32 reference of its rounded weights"}
            verdict = own.judge(name, outputs)
            reference = cut(self.reference, outputs["tokens"].shape[1])
            return {**verdict, "lossy": compare_lossy(reference, outputs).get("lossy", {})}
        if not self.half and not lossy and self.reference is None:
            if "logits" not in outputs:
                return {"passed": False, "reason": f"no logits to compare {name} with: add the arm torch-eager"}
            self.reference, self.name = outputs, name
        if self.reference is None:
            return {"passed": False, "reason": "there is no float32 reference to compare with"}
        reference = cut(self.reference, outputs["tokens"].shape[1])
        if lossy:
            return compare_lossy(reference, outputs)
        if not self.half:
            return compare(reference, outputs)
        if self.scale is None and name == self.scale_arm and not _shape_fault(reference, outputs):
            self.scale = half_errors(reference, outputs)
        if self.scale is None:
            return {"passed": False, "reason": f"{self.scale_arm} gave no error to compare with"}
        return compare_half(reference, outputs, self.scale)

    def judge_pass(self, tokens, name=""):
        """The tokens [B][n] that a pass made, of any case with the run's prompt in every row, against the reference's.

        {"passed", "reason", "agreement": share of tokens that agree up to the first that does not, "compared": number
        of tokens that were judged}: as far as the reference goes, and from a tie on no further.
        """
        if self.is_rounded(name):
            return self.rounded[name].judge_pass(tokens)
        steps, rows = min(len(tokens[0]), self.reference["tokens"].shape[1]), len(tokens)
        reference = {name: np.broadcast_to(array[:1], (rows, *array.shape[1:]))
                     for name, array in cut(self.reference, steps).items()}
        ours = {"tokens": np.array([row[:steps] for row in tokens])}
        differs_at = first_differences(ours["tokens"], reference["tokens"])
        undecided_gap = 2 * (self.scale["largest_logit_error"] if self.half
                             else limit_of("logits", self.reference["logits"]))
        judged, faults = _tokens(reference, ours, differs_at, undecided_gap)
        return {"passed": not faults, "reason": "; ".join(faults[:1]), "agreement": float(differs_at.mean() / steps),
                "compared": judged["compared"]}


def cut(outputs, steps):
    """The outputs of a generation as they were after its first `steps` tokens."""
    return {name: array[:, :steps] if name in ("tokens", "logits") else array for name, array in outputs.items()}
