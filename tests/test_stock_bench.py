"""The arm paddle-stock: a skipped row with the reason where it cannot run, held to its tokens where it can."""

import numpy as np
import pytest
from test_bench_gate import changed, reference  # noqa: F401  a fixture

from bench.arms import ARMS, default_arms
from bench.gate import Judge, compare, compare_half, half_errors
from bench.session import missing_source
from bench.worker import answer
from core.errors import NotHere, UserError
from tests.bench_options import run_options


def test_the_arm_is_skipped_with_its_reason(tmp_path):
    spec = ARMS["paddle-stock"]
    on_cpu = missing_source(spec, run_options(device="cpu", exported_stock=tmp_path))
    assert on_cpu.startswith("needs a GPU: Paddle has no CPU")
    assert "--exported-stock" in missing_source(spec, run_options(device="gpu"))
    assert missing_source(spec, run_options(device="gpu", exported_stock=tmp_path)) is None
    assert "paddle-stock" not in default_arms("cpu") + default_arms("gpu")


@pytest.mark.parametrize("error, status", [(NotHere("no kernels"), "skipped"), (UserError("no kernels"), "failed")])
def test_what_a_machine_cannot_run_is_skipped(error, status):
    def load():
        raise error

    assert answer(load, {}) == {"ok": False, "status": status, "reason": "no kernels"}


def without_logits(outputs, **arrays):
    return {name: array for name, array in changed(outputs, **arrays).items() if name != "logits"}


def test_gate_holds_an_arm_without_logits_to_its_tokens(reference):  # noqa: F811
    passed = compare(reference, without_logits(reference))
    assert passed["passed"] and passed["tokens"]["equal"] and "logits" not in passed
    tokens = reference["tokens"].copy()
    tokens[1, 2] = (tokens[1, 2] + 1) % 50
    failed = compare(reference, without_logits(reference, tokens=tokens))
    assert not failed["passed"] and "token 2 of row 1" in failed["reason"]
    features = reference["image_features"] + np.float32(0.1)
    assert "image_features differ" in compare(reference, without_logits(reference, image_features=features))["reason"]


def test_half_gate_without_logits(reference):  # noqa: F811
    rng = np.random.default_rng(0)
    rounded = changed(reference, logits=reference["logits"] + 1e-3 * rng.standard_normal(reference["logits"].shape),
                      image_features=reference["image_features"] * np.float32(1.001))
    scale = half_errors(reference, rounded)
    verdict = compare_half(reference, without_logits(rounded), scale)
    assert verdict["passed"] and "logits" not in verdict and "largest_logit_error" not in verdict
    tokens = (reference["tokens"] + 1) % 50
    assert not compare_half(reference, without_logits(rounded, tokens=tokens), scale)["passed"]


def test_an_arm_without_logits_is_no_reference(reference):  # noqa: F811
    verdict = Judge("float32", "torch-eager").judge("paddle-stock", without_logits(reference))
    assert not verdict["passed"] and "add the arm torch-eager" in verdict["reason"]
