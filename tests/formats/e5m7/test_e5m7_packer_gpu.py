"""Packing by the kernel, slice after slice through one buffer, against the reference in numpy."""

import numpy as np
import pytest

from core.placement import Placement
from ops.formats import e5m7
from tests.gpu.kernels import has_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture
def packer():
    from ops import library
    from ops.framework import devices

    gpu = Placement("gpu")
    devices.use(gpu)
    library.load()
    return lambda: e5m7.DevicePacker(gpu)


def matrices(*shape):
    """Numbers that came from bfloat16, subnormal ones among them."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-26, 4, shape)
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float16)


@pytest.mark.parametrize("limit", [1, 30_000, 64 << 20])
@pytest.mark.parametrize("shape", [(3, 8, 256), (248, 384), (2, 40, 4096)])
def test_slices_make_the_packed_matrix(monkeypatch, packer, shape, limit):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", max(limit, 16 * shape[-1]))  # the buffer's size, too
    packer, given = packer(), matrices(*shape)
    (packed,) = packer.pack(given)
    packer.close()
    np.testing.assert_array_equal(packed.numpy(), *e5m7.FORMAT.pack(given))


@pytest.mark.parametrize("value", [1 + 2 ** -8, 64, np.inf, np.nan])
def test_one_value_that_does_not_fit_is_seen(monkeypatch, packer, value):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", 8192)
    packer, given = packer(), matrices(2, 24, 256)
    given[1, 23, 255] = value
    assert packer.pack(given) is None
