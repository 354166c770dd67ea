"""The resampler: fused against native. (Goldens: test_replay.py.)"""

import numpy as np
import pytest

from tests.operators import CLOSE, config, functional, random_weights, tensor


@pytest.mark.parametrize("images", [1, 2])
def test_fused_equals_native(images):
    made = config()
    features = tensor(np.random.default_rng(images).standard_normal([images, 49, 48]))
    results = []
    for impl in ("fused", "native"):
        image_features = tensor(np.full([images, 256, 128], np.nan))
        functional.resampler(features, random_weights("resampler", made), image_features,
                             heads=made.visual.resampler_heads, impl=impl)
        results.append(image_features.numpy())
    np.testing.assert_allclose(*results, **CLOSE)
