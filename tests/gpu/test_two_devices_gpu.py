"""Kernels on a second card of one process: limits that have to be set on each card are set there, too."""

import math

import pytest

from tests.gpu.kernels import need_gpu

need_gpu()
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from tests.gpu.prefill_library import Library, assert_as_good  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")]
DEVICES = (0, 1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(7)


@pytest.fixture(params=DEVICES, ids=["first", "second"])
def kernels(request):
    """The library on each card in turn: the second comes after all tests on the first."""
    with torch.cuda.device(request.param):
        library = Library()
        yield library
        library.close()


def normal(*shape):
    return torch.randn(*shape, device="cuda").half()


@pytest.mark.parametrize("activation", [0, 1, 2])
def test_products(kernels, activation):
    weight, x = normal(480, 1664) * 1664 ** -0.5, normal(300, 1664)
    y = torch.full((300, 240 if activation == 2 else 480), math.nan, device="cuda", dtype=torch.float16)
    wide = torch.empty(300, 480, device="cuda", dtype=torch.float16)
    kernels.gemm(weight=weight, x=x, y=y, wide=wide, tokens=300, **{"in": 1664}, out=480, x_stride=1664, batch=1,
                 dtype=0, activation=activation)  # the library times every way to do it, so all of them are run

    def expected(kind):
        product = F.linear(x.to(kind), weight.to(kind))
        if activation == 2:
            gate, up = product.chunk(2, -1)
            return F.silu(gate) * up
        return F.gelu(product) if activation else product
    assert_as_good(y, expected(torch.float16), expected(torch.float32))


@pytest.mark.parametrize("head_dim", [64, 104, 128])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(kernels, head_dim, causal):
    heads, rows = 2, 200
    width = heads * head_dim
    q, k, v = normal(rows, width), normal(heads, rows, head_dim), normal(heads, rows, head_dim)
    out = torch.full((rows, width), math.nan, device="cuda", dtype=torch.float16)
    counts = [torch.tensor([n], dtype=torch.int32, device="cuda") for n in (rows, 0, 0)]
    lengths = dict(zip(("lengths", "positions", "offsets"), counts)) if causal else {}
    kernels.kernel("attention", q=q, k=k, v=v, out=out, query_row=width, query_head=head_dim, query_group=rows * width,
                   key_row=head_dim, key_head=rows * head_dim, key_group=heads * rows * head_dim, out_row=width,
                   out_head=head_dim, out_group=rows * width, **lengths, groups=1, heads=heads, head_dim=head_dim,
                   query_rows=rows, key_rows=rows, scale=head_dim ** -0.5, dtype=0)

    def expected(kind):
        queries = q.unflatten(-1, (heads, -1)).transpose(0, 1).to(kind)
        y = F.scaled_dot_product_attention(queries[None], k[None].to(kind), v[None].to(kind), is_causal=causal)[0]
        return y.transpose(0, 1).flatten(1)
    assert_as_good(out, expected(torch.float16), expected(torch.float32))
