"""Products and attention whose tiles never come give up, say so, and leave the process and its other work alone."""

import pytest

from tests.gpu.kernels import faulty_library_path, need_gpu

need_gpu()
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from tests.gpu import prefill_reference as reference  # noqa: E402
from tests.gpu.decode_harness import GAVE_UP  # noqa: E402
from tests.gpu.prefill_library import DTYPES, Library, assert_as_good  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]

TOKENS, INNER, OUTER, HEADS, HEAD_DIM = 300, 4096, 1536, 4, 128


@pytest.fixture(scope="module")
def faulty():
    """The library in which each product and each attention loses a tile."""
    library = Library(faulty_library_path())
    yield library
    library.close()


@pytest.fixture(autouse=True)
def hopper(tile_shape):
    """Only the kernels for sm_90a have such waits."""


def product(library, shape, packed):
    weight = torch.randn(OUTER, INNER, device="cuda").mul_(INNER ** -0.5).bfloat16().half()
    x, y = torch.randn(TOKENS, INNER, device="cuda").half(), torch.empty(TOKENS, OUTER, device="cuda").half()
    library.tile_shape(shape, weight=library.pack(weight) if packed else weight, x=x, y=y, tokens=TOKENS,
                       **{"in": INNER}, out=OUTER, x_stride=INNER, batch=1, dtype=DTYPES[torch.float16],
                       e5m7=int(packed))
    torch.cuda.synchronize()
    return weight, x, y


def attention(library, causal):
    q, k, v = (torch.randn(HEADS, TOKENS, HEAD_DIM, device="cuda").half() for _ in range(3))
    out, zero = torch.empty(TOKENS, HEADS, HEAD_DIM, device="cuda").half(), torch.zeros(1, dtype=torch.int32).cuda()
    rows = dict(lengths=zero + TOKENS, positions=zero, offsets=zero) if causal else {}
    library.kernel("attention", q=q, k=k, v=v, out=out, query_row=HEAD_DIM, query_head=TOKENS * HEAD_DIM,
                   key_row=HEAD_DIM, key_head=TOKENS * HEAD_DIM, out_row=HEADS * HEAD_DIM, out_head=HEAD_DIM, groups=1,
                   heads=HEADS, head_dim=HEAD_DIM, query_rows=TOKENS, key_rows=TOKENS, scale=HEAD_DIM ** -0.5,
                   dtype=DTYPES[torch.float16], **rows)
    torch.cuda.synchronize()
    return q, k, v, out


def assert_gave_up(library):
    assert library.so.qwen_vl_gave_up() == GAVE_UP
    text = library.so.qwen_vl_status_text(GAVE_UP).decode()  # the producer's wait or the consumers', who is first
    assert "waited without end for" in text and "a tile (product or attention)" in text
    assert library.so.qwen_vl_gave_up() == 0


def assert_works(kernels):
    """The same in the library without faults, in the same process."""
    weight, x, y = product(kernels, 0, False)
    assert_as_good(y, F.linear(x, weight), F.linear(x.float(), weight.float()))
    assert kernels.so.qwen_vl_gave_up() == 0


@pytest.mark.parametrize(("shape", "packed"), [(0, False), (2, False), (0, True), (2, True)])
def test_a_product_gives_up(faulty, kernels, shape, packed):
    product(faulty, shape, packed)
    assert_gave_up(faulty)
    assert_works(kernels)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_gives_up(faulty, kernels, causal):
    attention(faulty, causal)
    assert_gave_up(faulty)
    q, k, v, out = attention(kernels, causal)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device="cuda").tril() if causal else None
    same, exact = (reference.attend(*(t.to(kind) for t in (q, k, v)), mask) for kind in (q.dtype, torch.float32))
    assert_as_good(out, same.transpose(0, 1), exact.transpose(0, 1))
    assert_works(kernels)
