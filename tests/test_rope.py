"""Rotary frequencies against the reference's, for every alpha."""

import numpy as np
import pytest

from core.config import ModelConfig
from infer.rope import inverse_frequencies, ntk_alpha


@pytest.fixture(scope="module")
def golden(request):
    with np.load(request.getfixturevalue("tiny") / "rope_logn.npz") as data:
        return dict(data)


def test_alpha_follows_the_prompt_length(golden):
    assert [ntk_alpha(int(n), 2048) for n in golden["prefill_len"]] == golden["ntk_alpha"].tolist()


@pytest.mark.parametrize("alpha, prompt", [(1, 7), (3, 2304), (7, 4097)])
def test_frequencies(golden, tiny, alpha, prompt):
    made = inverse_frequencies(ModelConfig.load(tiny / "checkpoint"), prompt)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, golden[f"inv_freq_alpha{alpha}"], rtol=2e-7)
    angle = golden["positions"][:, None].astype(np.float32) * made
    np.testing.assert_allclose(np.cos(np.concatenate([angle, angle], -1)), golden[f"cos_alpha{alpha}"], atol=6e-4)
