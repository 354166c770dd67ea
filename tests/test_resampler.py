"""The resampler: fused against native. (Goldens: test_replay.py.)"""

import numpy as np
import pytest

from tests.operators import CLOSE, both, config, random_weights, tensor


@pytest.mark.parametrize("images", [1, 2])
def test_fused_equals_native(images):
    made = config()
    features = tensor(np.random.default_rng(images).standard_normal([images, 49, 48]))
    fused, native = both("resampler", features, random_weights("resampler", made), heads=made.visual.resampler_heads)
    assert fused.shape == (images, 256, 128)
    np.testing.assert_allclose(fused, native, **CLOSE)
