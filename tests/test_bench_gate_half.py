"""The accuracy gate in half precision: torch-eager's own error is the scale, planted errors fail."""

import numpy as np
import pytest

from bench.gate import HALF_FACTOR, Judge, compare_half, half_errors


@pytest.fixture
def reference():
    generator = np.random.default_rng(7)
    logits = generator.normal(size=[2, 6, 50], scale=2.4).astype(np.float32)
    logits[..., 9] += 20   # no ties
    return {"image_features": generator.normal(size=[2, 256, 16]).astype(np.float32), "logits": logits,
            "tokens": logits.argmax(-1)}


def rounded(reference, factor=1.0):
    """The reference with float16's rounding error times `factor`."""
    made = {name: reference[name] + np.float32(factor) * (reference[name].astype(np.float16) - reference[name])
            for name in ("image_features", "logits")}
    return {**made, "tokens": made["logits"].argmax(-1)}


@pytest.mark.parametrize("name", ["image_features", "logits"])
def test_error_beyond_the_scale_fails(reference, name):
    scale = half_errors(reference, rounded(reference))
    for factor, passes in ((1.0, True), (0.96 * HALF_FACTOR, True), (1.04 * HALF_FACTOR, False)):
        candidate = {**rounded(reference), name: rounded(reference, factor)[name]}
        result = compare_half(reference, candidate, scale)
        assert result["passed"] is passes, result
        assert result[name]["relative_error"] == pytest.approx(factor * scale[name], rel=0.02)
        assert passes or result["reason"].startswith(name)


def test_planted_token_fails_where_the_gap_decides(reference):
    scale = half_errors(reference, rounded(reference))
    candidate = rounded(reference)
    candidate["tokens"][1, 2] = 3
    result = compare_half(reference, candidate, scale)
    assert not result["passed"] and "token 2 of row 1" in result["reason"]


def test_small_gap_is_a_tie(reference):
    scale = half_errors(reference, rounded(reference))
    reference["logits"][1, 2, 3] = reference["logits"][1, 2, 9] - scale["largest_logit_error"]
    candidate = rounded(reference)
    candidate["tokens"][1, 2] = 3
    result = compare_half(reference, candidate, scale)
    assert result["passed"] and [(tie["row"], tie["step"]) for tie in result["tokens"]["ties"]] == [(1, 2)]


def test_nan_fails(reference):
    scale = half_errors(reference, rounded(reference))
    candidate = rounded(reference)
    candidate["logits"][0, 0, 0] = np.nan
    assert not compare_half(reference, candidate, scale)["passed"]


def test_judge_takes_the_scale_from_the_arm(reference):
    judge = Judge("float16", "torch-eager", reference)
    assert judge.judge("torch-eager", rounded(reference))["passed"]
    assert judge.judge("other", rounded(reference, 1.2))["passed"]
    assert not judge.judge("worse", rounded(reference, 2))["passed"]


@pytest.mark.parametrize("known, reason", [(False, "no float32 reference"), (True, "gave no error")])
def test_judge_without_what_it_needs_passes_nothing(reference, known, reason):
    judge = Judge("float16", "torch-eager", reference if known else None)
    result = judge.judge("paddle-fused", rounded(reference))
    assert not result["passed"] and reason in result["reason"]
