"""Sizes of which a decode step in E5M7 is refused; tests/gpu/test_decode_kernels.py runs those that it takes."""

import pytest

from tests.gpu.kernels import need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu.decode_harness import Decoder, Geometry, load_library, make_state  # noqa: E402

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("sizes", [dict(hidden=192, heads=2, mlp=128), dict(hidden=256, heads=2, mlp=160),
                                   dict(hidden=256, heads=2, mlp=128, dtype=torch.bfloat16),
                                   dict(hidden=256, heads=2, mlp=128, vocab=84),
                                   dict(hidden=128, heads=16, mlp=128)])
def test_sizes_that_it_cannot_hold_are_refused(sizes):
    g = Geometry(**{"layers": 1, "vocab": 64, **sizes}, format="e5m7")
    with pytest.raises(ValueError, match="does not support"):
        Decoder(load_library(), g, {}, make_state(g, [0]))
