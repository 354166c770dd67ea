"""Quantised weights on a GPU: unpacking against the numpy reference, products against torch in fp32."""

import ctypes

import numpy as np
import pytest

from ops import formats
from tests.formats.test_quantised import random_codes
from tests.gpu.kernels import QUANTISED, need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu import quantised  # noqa: E402
from tests.gpu.products import Product  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]
ALL = pytest.mark.parametrize("format", QUANTISED)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(6)


def unpack(kernels, format, words, rows, columns):
    unpacked = torch.empty(rows, columns, dtype=torch.float16, device="cuda")
    sizes = (ctypes.c_longlong(size) for size in (rows, columns))
    kernels.plain("unpack", formats.NAMES.index(format), words, unpacked, *sizes)
    return unpacked


@ALL
@pytest.mark.parametrize("rows,columns", [(8, 128), (40, 4096), (304, 11008)])
def test_unpacking_is_the_reference_rounded_once(kernels, format, rows, columns):
    codes = random_codes(formats.get(format), (), rows, columns)
    words = formats.get(format).pack_codes(codes)[0]
    with np.errstate(over="ignore"):
        expected = formats.get(format).dequantise(codes).astype(np.float16)
    found = unpack(kernels, format, torch.from_numpy(words).cuda(), rows, columns)
    assert np.array_equal(found.cpu().numpy(), expected)


@ALL
def test_torch_packs_as_the_reference(kernels, format):
    """What the other tests' weights are packed with."""
    weight = quantised.random_weights(format, (2, 24, 384), 0.1, torch.Generator("cuda"))
    packed = quantised.pack(weight, format).cpu().numpy().view(np.int32)
    assert np.array_equal(formats.get(format).unpack([packed]), weight.float().cpu().numpy())


@ALL
@pytest.mark.parametrize("rows,columns", [(8, 64), (12, 128)])
def test_parts_of_a_tile_are_refused(kernels, format, rows, columns):
    with pytest.raises(RuntimeError):
        unpack(kernels, format, torch.zeros(4096, dtype=torch.uint8, device="cuda"), rows, columns)


@ALL
@pytest.mark.parametrize("inner,outer", [(256, 480), (1024, 1000), (4096, 1536), (11008, 208)])
@pytest.mark.parametrize("tokens", [1, 16, 143, 145, 300, 1024])
def test_products(kernels, format, tokens, inner, outer):
    Product(kernels, format, tokens, inner, outer).check_all()


@ALL
@pytest.mark.parametrize("inner,outer", [(1024, 1000), (4096, 12288), (11008, 4096)])
@pytest.mark.parametrize("tokens", [1, 145, 286, 613])
def test_tile_shapes(kernels, tile_shape, format, tokens, inner, outer):
    Product(kernels, format, tokens, inner, outer).check_shapes(tile_shape)
