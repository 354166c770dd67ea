"""The GPU's resize against Pillow, bit for bit, through the operator."""

import numpy as np
import pytest
from PIL import Image

from core.placement import Placement
from tests.gpu.kernels import has_gpu

SIZE = 448
SIZES = [(512, 600), (600, 512), (512, 576), (720, 993), (448, 448), (449, 447), (37, 901), (3, 5), (2000, 1),
         (3000, 2001)]
GPU = Placement("gpu")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.mark.parametrize("width, height", SIZES)
def test_resize_is_pillows(width, height):
    from infer.image import NORMALISED, resize_table, resizes_columns_first, to_pixels
    from ops import functional, library
    from ops.framework.tensors import upload

    library.load()
    image = np.random.default_rng(width).integers(0, 256, [height, width, 3], np.uint8)
    inputs = [upload(a, GPU) for a in (image, resize_table(width, SIZE), resize_table(height, SIZE), NORMALISED)]
    pixels = upload(np.zeros([2, 3, SIZE, SIZE], np.float32), GPU)
    functional.resize(*inputs, pixels, index=1, columns_first=resizes_columns_first(width, height, SIZE))
    expected = to_pixels([Image.fromarray(image)], SIZE)
    np.testing.assert_array_equal(pixels.numpy(), np.concatenate([np.zeros_like(expected), expected]))
