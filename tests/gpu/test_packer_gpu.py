"""Packing by the kernel, slice after slice through one buffer, against the reference in numpy."""

import numpy as np
import pytest

from core.placement import Placement
from tests import e5m7_reference
from tests.gpu.kernels import has_gpu

GPU = Placement("gpu")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture
def e5m7():
    from ops import e5m7, library
    from ops.framework import devices

    devices.use(GPU)
    library.load()
    return e5m7


def matrices(*shape):
    """Numbers that came from bfloat16, subnormal ones among them."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-26, 4, shape)
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float16)


@pytest.mark.parametrize("limit", [1, 30_000, 64 << 20])
@pytest.mark.parametrize("shape", [(3, 8, 256), (248, 384), (2, 40, 4096)])
def test_slices_make_the_packed_matrix(monkeypatch, e5m7, shape, limit):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", max(limit, 16 * shape[-1]))  # the buffer's size, too
    packer, given = e5m7.Packer(GPU), matrices(*shape)
    packed = packer.pack(given)
    packer.close()
    expected = e5m7_reference.pack(given.reshape(-1, shape[-1]))
    np.testing.assert_array_equal(packed.numpy().view(np.uint32).reshape(expected.shape), expected)


@pytest.mark.parametrize("value", [1 + 2 ** -8, 64, np.inf, np.nan])
def test_one_value_that_does_not_fit_is_seen(monkeypatch, e5m7, value):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", 8192)
    packer, given = e5m7.Packer(GPU), matrices(2, 24, 256)
    given[1, 23, 255] = value
    assert packer.pack(given) is None
