"""The accuracy gate in float32: equal outputs pass, every kind of planted difference fails and is named."""

import numpy as np
import pytest

from bench.gate import compare, limit_of


@pytest.fixture
def reference():
    generator = np.random.default_rng(7)
    logits = generator.normal(size=[2, 6, 50], scale=2.4).astype(np.float32)
    return {"image_features": generator.normal(size=[2, 256, 16]).astype(np.float32), "logits": logits,
            "tokens": logits.argmax(-1)}


def changed(outputs, **arrays):
    return {**{name: array.copy() for name, array in outputs.items()}, **arrays}


def test_equal_outputs_pass(reference):
    result = compare(reference, changed(reference))
    assert result["passed"] and result["reason"] == ""
    assert result["tokens"] == {"equal": True, "compared": 12, "ties": []}
    assert result["logits"]["max_abs_difference"] == 0


@pytest.mark.parametrize("name", ["image_features", "logits"])
def test_limit_separates(reference, name):
    limit = limit_of(name, reference[name])
    for factor, passes in ((0.9, True), (1.1, False)):
        candidate = changed(reference)
        candidate[name][1, 3, 5] += np.float32(factor * limit)
        result = compare(reference, candidate)
        assert result["passed"] is passes
        assert result[name]["max_abs_difference"] == pytest.approx(factor * limit, rel=0.05)
        assert passes or name in result["reason"]


def test_float32_limits_are_those_of_the_golden_data():
    assert limit_of("image_features", np.full([4], 0.96)) == pytest.approx(3e-5)
    assert limit_of("logits", np.full([4], 2.4)) == pytest.approx(2e-4)


def test_other_token_fails(reference):
    candidate = changed(reference)
    candidate["tokens"][1, 2] = (candidate["tokens"][1, 2] + 1) % 50
    result = compare(reference, candidate)
    assert not result["passed"] and "token 2 of row 1" in result["reason"]


def test_logits_behind_the_first_other_token_are_not_compared(reference):
    candidate = changed(reference)
    candidate["tokens"][0, 1] = (candidate["tokens"][0, 1] + 1) % 50
    candidate["logits"][0, 2:] += 1
    result = compare(reference, candidate)
    assert result["logits"]["max_abs_difference"] == 0
    assert result["tokens"]["compared"] == 2 + 6


def test_tie_is_no_difference_but_is_listed(reference):
    best, second = np.argsort(reference["logits"][0, 3])[[-1, -2]]
    reference["logits"][0, 3, second] = reference["logits"][0, 3, best] - np.float32(1e-5)
    candidate = changed(reference)
    candidate["tokens"][0, 3] = second
    result = compare(reference, candidate)
    assert result["passed"] and not result["tokens"]["equal"]
    assert [(tie["row"], tie["step"]) for tie in result["tokens"]["ties"]] == [(0, 3)]


@pytest.mark.parametrize("name", ["image_features", "logits"])
def test_nan_fails(reference, name):
    candidate = changed(reference)
    candidate[name][0, 0, 0] = np.nan
    assert not compare(reference, candidate)["passed"]


def test_other_shape_fails(reference):
    result = compare(reference, changed(reference, tokens=reference["tokens"][:, :3]))
    assert not result["passed"] and "shape" in result["reason"]
