"""A copy that never comes does not hang sm_90a's products and attention: the wait is given up and named, and the next
launch is right. Copies are lost in a build for tests (tests.gpu.kernels.delayed_library_path)."""

import contextlib
import ctypes

import pytest

from tests.gpu.kernels import STORED, delayed_library_path, need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu.decode_harness import GAVE_UP  # noqa: E402
from tests.gpu.prefill_library import DTYPES, Library  # noqa: E402
from tests.gpu.prefill_reference import held_weight  # noqa: E402

pytestmark = pytest.mark.gpu

WAITS = 7  # kinds of waits (QWEN_VL_WAITS); the word after theirs has copies lost
TOKENS, INNER, OUTER = 300, 4096, 1536


@pytest.fixture(scope="module")
def kernels():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")
    library = Library(delayed_library_path())
    library.so.qwen_vl_wait_words.restype = ctypes.POINTER(ctypes.c_uint64)
    yield library
    library.close()


@contextlib.contextmanager
def lost_copies(kernels):
    words = kernels.so.qwen_vl_wait_words()
    words[WAITS] = 1
    yield
    torch.cuda.synchronize()
    words[WAITS] = 0


def check(kernels, launch, result, purpose):
    """`launch` gives the same `result` before and after a launch that loses copies, which names the `purpose`."""
    launch()
    torch.cuda.synchronize()
    assert kernels.so.qwen_vl_gave_up() == 0
    expected = result.clone()
    assert torch.isfinite(expected).all()
    with lost_copies(kernels):
        launch()
    assert kernels.so.qwen_vl_gave_up() == GAVE_UP
    assert purpose in kernels.so.qwen_vl_status_text(GAVE_UP).decode()
    result.fill_(torch.nan)
    launch()
    torch.cuda.synchronize()
    assert kernels.so.qwen_vl_gave_up() == 0
    assert torch.equal(result, expected)


PACKED = [(shape, kept, activation) for kept in STORED
          for shape, activation in (*((shape, 0) for shape in range(9)), (4, 2))]


@pytest.mark.parametrize(("shape", "kept", "activation"), [(0, "", 0), (1, "", 2), (2, "", 0), *PACKED])
def test_products(kernels, shape, kept, activation):
    torch.manual_seed(0)
    weight = held_weight(kept, (torch.randn(OUTER, INNER, device="cuda") / 64).half())
    x = torch.randn(TOKENS, INNER, device="cuda").half()
    y = torch.zeros(TOKENS, OUTER // (2 if activation == 2 else 1), device="cuda").half()
    values = dict(weight=kernels.pack(weight, kept) if kept else weight, x=x, y=y, tokens=TOKENS, out=OUTER,
                  x_stride=INNER, batch=1, dtype=DTYPES[torch.float16], activation=activation, format=kept)
    values["in"] = INNER
    check(kernels, lambda: kernels.tile_shape(shape, **values), y, "tiles of a matrix product")


@pytest.mark.parametrize("head_dim", [64, 104, 128])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_attention(kernels, causal, head_dim):
    torch.manual_seed(0)
    heads, rows, groups = 3, 520, 2
    q, k, v = (torch.randn(groups, heads, rows, head_dim, device="cuda").half() for _ in "qkv")
    out = torch.zeros(groups, rows, heads, head_dim, device="cuda").half()
    whole = heads * rows * head_dim
    values = dict(q=q, k=k, v=v, out=out, query_row=head_dim, query_head=rows * head_dim, query_group=whole,
                  key_row=head_dim, key_head=rows * head_dim, key_group=whole, out_row=heads * head_dim,
                  out_head=head_dim, out_group=whole, groups=groups, heads=heads, head_dim=head_dim, query_rows=rows,
                  key_rows=rows, scale=head_dim ** -0.5, dtype=DTYPES[torch.float16])
    if causal:  # rows are packed: a query group after the other, heads of a row together
        q = torch.randn(groups * rows, heads, head_dim, device="cuda").half()
        ints = dict(device="cuda", dtype=torch.int32)
        lengths = torch.full((groups,), rows, **ints)
        values |= dict(q=q, query_row=heads * head_dim, query_head=head_dim, lengths=lengths,
                       positions=torch.zeros(groups, **ints), offsets=torch.arange(groups, **ints) * rows)
    check(kernels, lambda: kernels.kernel("attention", **values), out, "keys and values of attention")
