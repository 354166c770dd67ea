"""Weights in E5M7: packing against the numpy reference, products against torch in fp32 (as test_prefill_kernels.py)."""

import ctypes

import numpy as np
import pytest

from ops.formats.e5m7 import reference
from tests.gpu.kernels import need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu.products import SHAPES, Product, normal  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]
TOKENS = (1, 7, 16, 64, 143, 144, 145, 286, 300, 1024)
# Too short for the products of sm_90a, rows that they do not take, of several tiles and of a part of one.
SIZES = ((256, 480), (1024, 1000), (4096, 1536), (11008, 208))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(6)


def once_bfloat16(*shape):
    return normal(*shape, scale=shape[-1] ** -0.5).bfloat16().half()


def long_longs(*values):
    return map(ctypes.c_longlong, values)


@pytest.mark.parametrize("rows,columns", [(8, 128), (40, 4096), (304, 11008)])
def test_packing(kernels, rows, columns):
    weight, failed = once_bfloat16(rows, columns), torch.zeros(1, dtype=torch.int32, device="cuda")
    packed = torch.empty(rows, columns // 8 * 13, dtype=torch.uint8, device="cuda")
    kernels.plain("e5m7_pack", weight, packed, *long_longs(rows, columns), failed)
    assert failed.item() == 0
    assert np.array_equal(packed.view(torch.int32).cpu().numpy(), *reference.pack(weight.cpu().numpy()))
    again = torch.empty_like(weight)
    kernels.plain("e5m7_unpack", packed, again, *long_longs(rows, columns))
    assert torch.equal(again.view(torch.int16), weight.view(torch.int16))


def test_every_number(kernels):
    every = torch.arange(1 << 16, device="cuda").short().view(torch.float16).reshape(-1, 256)
    packed = torch.empty(256, 256 // 8 * 13, dtype=torch.uint8, device="cuda")
    failed, again = torch.full((1,), 5, dtype=torch.int32, device="cuda"), torch.empty_like(every)
    kernels.plain("e5m7_pack", every, packed, *long_longs(256, 256), failed)
    kernels.plain("e5m7_unpack", packed, again, *long_longs(256, 256))
    same = again.view(torch.int16) == every.view(torch.int16)
    assert failed.item() == 5 + reference.failures(every.cpu().numpy())
    assert (same | (again == 0)).all() and (~same).sum() <= failed.item() - 5


@pytest.mark.parametrize("rows,columns", [(8, 64), (12, 128)])
def test_parts_of_what_stands_together_are_refused(kernels, rows, columns):
    with pytest.raises(RuntimeError):
        kernels.plain("e5m7_unpack", normal(rows, columns), normal(rows, columns), *long_longs(rows, columns))


@pytest.mark.parametrize("inner,outer", SIZES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_products(kernels, tokens, inner, outer):
    Product(kernels, "e5m7", tokens, inner, outer).check_all()


@pytest.mark.parametrize("inner,outer", [(1024, 1000), (4096, 12288), (11008, 4096)])
@pytest.mark.parametrize("tokens", [1, 145, 286, 316, 380, 613])
def test_tile_shapes(kernels, tile_shape, tokens, inner, outer):
    Product(kernels, "e5m7", tokens, inner, outer).check_shapes(tile_shape)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("inner,outer", [(4096, 12288), (11008, 4096)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_product_gives_the_same_bits(kernels, tile_shape, shape, inner, outer, residual):
    product = Product(kernels, "e5m7", 286, inner, outer)
    results = []
    for _ in range(200):
        y = product.addend.clone()
        tile_shape(shape, y=y, addend=y if residual else None, **product.values)
        results.append(y)
        assert torch.equal(results[0], y)
