"""The vision encoder: fused against native, over image counts and an odd geometry. (Goldens: test_replay.py.)"""

import numpy as np
import pytest

from tests.operators import CLOSE, both, config, random_weights, tensor


@pytest.mark.parametrize("images", [1, 3])
def test_fused_equals_native(images):
    made = config()
    pixels = tensor(np.random.default_rng(images).standard_normal([images, 3, 70, 70]))
    fused, native = both("vision_encoder", pixels, random_weights("vision_encoder", made), heads=made.visual.heads)
    assert fused.shape == (images, 49, 48)
    np.testing.assert_allclose(fused, native, **CLOSE)


def test_images_do_not_mix():
    made, weights = config(), random_weights("vision_encoder", config())
    pixels = np.random.default_rng(5).standard_normal([2, 3, 70, 70])
    together, _ = both("vision_encoder", tensor(pixels), weights, heads=made.visual.heads)
    alone, _ = both("vision_encoder", tensor(pixels[1:]), weights, heads=made.visual.heads)
    np.testing.assert_allclose(together[1:], alone, **CLOSE)


def test_wrong_shape_is_named():
    weights = random_weights("vision_encoder", config())
    weights["qkv_bias"] = tensor(np.zeros([2, 7]))
    with pytest.raises(Exception, match=r"qkv_bias has shape \[2, 7\], expected \[2, 144\]"):
        both("vision_encoder", tensor(np.zeros([1, 3, 70, 70])), weights, heads=3)
