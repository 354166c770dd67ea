"""The decoder's kernels for prompts and large batches, against torch in fp32; the error may be 1.25 x torch's own."""

import ctypes
import math

import pytest

from tests.gpu.kernels import STORED, need_gpu

need_gpu()
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from tests.gpu import prefill_reference as reference  # noqa: E402
from tests.gpu.prefill_library import DTYPES, assert_as_good  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]
BOTH = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
WEIGHTS = pytest.mark.parametrize("dtype,format", [(torch.float16, ""), (torch.bfloat16, ""),
                                                   *((torch.float16, format) for format in STORED)],
                                  ids=["fp16", "bf16", *STORED])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(5)


def normal(*shape, dtype=torch.float16, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).to(dtype)


def int_tensor(values, dtype=torch.int32):
    return torch.tensor(values, dtype=dtype, device="cuda")


@BOTH
@pytest.mark.parametrize("rows,width", [(1, 8), (3, 208), (17, 1664), (286, 4096), (5, 20480)])
def test_rms_norm(kernels, dtype, rows, width):
    x, weight, y = normal(rows, width, dtype=dtype), normal(width, dtype=dtype), normal(rows, width, dtype=dtype)
    kernels.plain("rms_norm", x, weight, y, ctypes.c_longlong(rows), width, ctypes.c_float(1e-6), DTYPES[dtype])
    assert_as_good(y, reference.rms_norm(x, weight), reference.rms_norm(x.float(), weight.float()))


@BOTH
@pytest.mark.parametrize("rows,width", [(1, 8), (3, 208), (17, 1664), (1024, 1664), (7, 4096)])
def test_layer_norm(kernels, dtype, rows, width):
    x, weight, bias = normal(rows, width, dtype=dtype) + 3, normal(width, dtype=dtype), normal(width, dtype=dtype)
    same = F.layer_norm(x, (width,), weight, bias, 1e-6)
    exact = F.layer_norm(x.float(), (width,), weight.float(), bias.float(), 1e-6)
    kernels.plain("layer_norm", x, weight, bias, x, ctypes.c_longlong(rows), width, ctypes.c_float(1e-6),
                  DTYPES[dtype])
    assert_as_good(x, same, exact)


@BOTH
def test_silu_mul(kernels, dtype):
    x = normal(37, 2 * 11008, dtype=dtype, scale=3)
    x[0, :8] = -300
    y = torch.full((37, 11008), math.nan, device="cuda", dtype=dtype)
    kernels.plain("silu_mul", x, y, ctypes.c_longlong(37), 11008, DTYPES[dtype])
    gate, up = x.chunk(2, -1)
    assert_as_good(y, up * F.silu(gate), up.float() * F.silu(gate.float()))


@BOTH
@pytest.mark.parametrize("tokens,inner,outer", [(1, 256, 480), (7, 4096, 768), (286, 1664, 4992), (33, 11008, 4096)])
def test_gemm(kernels, dtype, tokens, inner, outer):
    weight, x = normal(outer, inner, dtype=dtype, scale=inner ** -0.5), normal(tokens, inner, dtype=dtype)
    bias, addend = normal(outer, dtype=dtype), normal(tokens, outer, dtype=dtype)
    common = dict(weight=weight, x=x, tokens=tokens, **{"in": inner}, out=outer, x_stride=inner, batch=1,
                  dtype=DTYPES[dtype])
    plain = torch.empty(tokens, outer, device="cuda", dtype=dtype)
    kernels.gemm(y=plain, **common)
    assert_as_good(plain, F.linear(x, weight), F.linear(x.float(), weight.float()))
    kernels.gemm(y=plain, bias=bias, **common)
    assert_as_good(plain, F.linear(x, weight, bias), F.linear(x.float(), weight.float(), bias.float()))
    in_place = addend.clone()
    kernels.gemm(y=in_place, addend=in_place, **common)
    assert_as_good(in_place, F.linear(x, weight) + addend, F.linear(x.float(), weight.float()) + addend.float())
    wide = torch.empty(tokens, outer, device="cuda")
    kernels.gemm(y=wide, float_output=1, **common)
    assert_as_good(wide, F.linear(x, weight), F.linear(x.float(), weight.float()))


def activated(x, activation):
    """What `activation` (QwenVlGemm's) makes of a product."""
    if activation == 1:
        return F.gelu(x)
    if activation == 2:
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up
    return x


@BOTH
@pytest.mark.parametrize("shape,activation", [(0, 0), (0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("tokens,inner,outer", [(1024, 1664, 4992), (286, 4096, 1536), (613, 968, 208)])
def test_gemm_tile_shapes(tile_shape, dtype, shape, activation, tokens, inner, outer):
    weight, x = normal(outer, inner, dtype=dtype, scale=inner ** -0.5), normal(tokens, inner, dtype=dtype)
    bias, addend = normal(outer, dtype=dtype), normal(tokens, outer, dtype=dtype)
    width = outer // 2 if activation == 2 else outer
    y = torch.full((tokens + 64, width), math.nan, device="cuda", dtype=dtype)
    values = dict(weight=weight, x=x, y=y, tokens=tokens, **{"in": inner}, out=outer, x_stride=inner, batch=1,
                  dtype=DTYPES[dtype], activation=activation)

    with_bias = {} if activation == 2 else {"bias": bias}
    tile_shape(shape, **values, **with_bias)
    bias = None if activation == 2 else bias
    same = activated(F.linear(x, weight, bias), activation)
    exact = activated(F.linear(x.float(), weight.float(), None if bias is None else bias.float()), activation)
    assert_as_good(y[:tokens], same, exact)
    assert torch.isnan(y[tokens:]).all()
    if not activation:
        y[:tokens] = addend
        tile_shape(shape, **values, **with_bias, addend=y)
        assert_as_good(y[:tokens], same + addend, exact + addend.float())
        assert torch.isnan(y[tokens:]).all()


@BOTH
@pytest.mark.parametrize("tokens,inner,outer", [(3, 256, 480), (286, 1664, 4992)])
def test_gemm_activations(kernels, dtype, tokens, inner, outer):
    weight, x = normal(outer, inner, dtype=dtype, scale=inner ** -0.5), normal(tokens, inner, dtype=dtype)
    for activation, width in ((1, outer), (2, outer // 2)):
        y = torch.full((tokens, width), math.nan, device="cuda", dtype=dtype)
        kernels.gemm(weight=weight, x=x, y=y, tokens=tokens, **{"in": inner}, out=outer, x_stride=inner,
                     batch=1, dtype=DTYPES[dtype], activation=activation,
                     wide=torch.empty(tokens, outer, device="cuda", dtype=dtype))
        assert_as_good(y, activated(F.linear(x, weight), activation),
                       activated(F.linear(x.float(), weight.float()), activation))


@BOTH
@pytest.mark.parametrize("head_dim", [64, 104, 128])
@pytest.mark.parametrize("lengths,past", [([1], [0]), ([64], [0]), ([37, 1, 130], [0, 70, 200]), ([1] * 11, range(11)),
                                          ([2305], [0])])
def test_causal_attention(kernels, dtype, head_dim, lengths, past):
    heads, batch, past = 3, len(lengths), list(past)
    capacity = max(map(sum, zip(lengths, past, strict=True))) + 5
    q = normal(sum(lengths), 3 * heads * head_dim, dtype=dtype)
    k, v = (torch.full((batch, heads, capacity, head_dim), math.nan, device="cuda", dtype=dtype) for _ in "kv")
    out = torch.full((sum(lengths), heads * head_dim), math.nan, device="cuda", dtype=dtype)
    for row in range(batch):
        k[row, :, :past[row] + lengths[row]].normal_()
        v[row, :, :past[row] + lengths[row]].normal_()
    offsets = [sum(lengths[:b]) for b in range(batch)]
    kernels.kernel("attention", q=q, k=k, v=v, out=out, query_row=3 * heads * head_dim, query_head=head_dim,
                   key_row=head_dim, key_head=capacity * head_dim, key_group=heads * capacity * head_dim,
                   out_row=heads * head_dim, out_head=head_dim, lengths=int_tensor(lengths),
                   positions=int_tensor(past), offsets=int_tensor(offsets), groups=batch, heads=heads,
                   head_dim=head_dim, query_rows=max(lengths), key_rows=capacity, scale=head_dim ** -0.5,
                   dtype=DTYPES[dtype])

    def expected(kind):
        rows = []
        for row, (count, before) in enumerate(zip(lengths, past, strict=True)):
            end = before + count
            queries = q[offsets[row]:offsets[row] + count, :heads * head_dim].unflatten(-1, (heads, -1)).transpose(0, 1)
            mask = torch.arange(end, device="cuda") <= torch.arange(before, end, device="cuda")[:, None]
            y = reference.attend(queries.to(kind), k[row, :, :end].to(kind), v[row, :, :end].to(kind), mask)
            rows.append(y.transpose(0, 1).flatten(1))
        return torch.cat(rows)
    assert_as_good(out, expected(dtype), expected(torch.float32))


@BOTH
def test_embedding(kernels, dtype):
    batch, seq, hidden, images = 3, 40, 264, 3
    table, features = normal(100, hidden, dtype=dtype), normal(images, 16, hidden, dtype=dtype)
    tokens = torch.randint(0, 100, (batch, seq), device="cuda")
    expected = table[tokens]
    tokens[2, 39] = 100  # outside the vocabulary
    expected[2, 39] = 0
    expected[0, 20:36] = features[0]
    expected[2, 1:17] = features[2]
    out = torch.full((batch, seq, hidden), math.nan, device="cuda", dtype=dtype)
    kernels.kernel("embedding", table=table, tokens=tokens, features=features,
                   image_starts=int_tensor([[0, 20], [-1, 0], [2, 1]]), hidden=out, batch=batch, seq=seq,
                   hidden_size=hidden, vocab=100, images=images, features_per_image=16, dtype=DTYPES[dtype])
    assert torch.equal(out, expected)


class Decoder:
    """A small decoder with its caches in fp32, the type under test, and the library's hands."""

    def __init__(self, kernels, dtype, batch, capacity, layers=2, heads=3, head_dim=128, mlp=360, logn=0, format=""):
        self.kernels, self.dtype, self.batch, self.capacity, self.logn = kernels, dtype, batch, capacity, logn
        self.layers, self.heads, self.head_dim, self.mlp, self.format = layers, heads, head_dim, mlp, format
        self.hidden = hidden = heads * head_dim
        self.weights = reference.random_weights({
            "ln_1_weight": [layers, hidden], "qkv_weight": [layers, 3 * hidden, hidden],
            "qkv_bias": [layers, 3 * hidden], "out_weight": [layers, hidden, hidden], "ln_2_weight": [layers, hidden],
            "gate_up_weight": [layers, 2 * mlp, hidden], "down_weight": [layers, hidden, mlp]}, dtype, 3)
        self.given = self.weights
        if format:
            self.weights = reference.held(format, self.weights)
            self.given = kernels.packed(self.weights, format)
        shape = (layers, batch, heads, capacity, head_dim)
        self.caches = [torch.full(shape, math.nan, device="cuda", dtype=dtype) for _ in "kv"]
        self.expected = {kind: [torch.zeros(shape, device="cuda", dtype=kind) for _ in "kv"]
                         for kind in (dtype, torch.float32)}
        self.inv_freq = torch.stack([10000.0 * (1 + b) ** 1.1 for b in torch.arange(batch)]).cuda()[:, None] ** -(
            torch.arange(0, head_dim, 2, device="cuda") / head_dim)
        self.positions = [0] * batch

    def call(self, lengths, seq, tokens=None):
        """Feed random rows of these lengths and compare output and caches."""
        x = normal(self.batch, seq, self.hidden, dtype=self.dtype)
        y = torch.empty_like(x)
        self.kernels.stage("decoder_prefill", x=x, y=y, k_cache=self.caches[0], v_cache=self.caches[1],
                           lengths=int_tensor(lengths), positions=int_tensor(self.positions), inv_freq=self.inv_freq,
                           **self.given, batch=self.batch, seq=seq, tokens=tokens or sum(lengths),
                           hidden=self.hidden, layers=self.layers, heads=self.heads, mlp_width=self.mlp,
                           capacity=self.capacity, logn_length=self.logn, epsilon=1e-6, dtype=DTYPES[self.dtype],
                           format=self.format)
        results = {}
        for kind, (k, v) in self.expected.items():
            results[kind] = torch.cat([reference.decoder_row(
                x[b, :n], self.weights, self.heads, k[:, b], v[:, b], self.positions[b], self.inv_freq[b], self.logn,
                kind) for b, n in enumerate(lengths)])
        ours = torch.cat([y[b, :n] for b, n in enumerate(lengths)])
        assert_as_good(ours, results[self.dtype], results[torch.float32])
        self.positions = [p + n for p, n in zip(self.positions, lengths, strict=True)]
        for mine, same, exact in zip(self.caches, self.expected[self.dtype], self.expected[torch.float32],
                                     strict=True):
            for b, end in enumerate(self.positions):
                assert_as_good(mine[:, b, :, :end], same[:, b, :, :end], exact[:, b, :, :end])
                assert torch.isnan(mine[:, b, :, end:]).all()


@BOTH
@pytest.mark.parametrize("head_dim", [64, 128])
def test_decoder_one_row(kernels, dtype, head_dim):
    decoder = Decoder(kernels, dtype, 1, 310, head_dim=head_dim)
    decoder.call([286], 286)
    decoder.call([1], 1)
    decoder.call([7], 20)
    assert decoder.positions == [294]


# The first is too small for the products of sm_90a, which take the second.
@pytest.mark.parametrize("heads,mlp", [(3, 384), (8, 1408)])
@pytest.mark.parametrize("format", STORED)
def test_decoder_of_packed_weights(kernels, format, heads, mlp):
    decoder = Decoder(kernels, torch.float16, 1, 310, heads=heads, mlp=mlp, format=format)
    decoder.call([286], 286)
    decoder.call([1], 1)
    decoder = Decoder(kernels, torch.float16, 17, 64, heads=heads, mlp=mlp, format=format)
    decoder.call(list(range(20, 37)), 36)
    decoder.call([1] * 17, 1)


@BOTH
def test_decoder_rows_of_different_length(kernels, dtype):
    decoder = Decoder(kernels, dtype, 4, 120)
    decoder.call([37, 1, 90, 64], 90)
    decoder.call([5, 13, 2, 9], 13, tokens=4 * 13)
    decoder.call([1, 1, 1, 1], 1)


@BOTH
def test_decoder_step_of_many_rows(kernels, dtype):
    decoder = Decoder(kernels, dtype, 17, 64)
    decoder.call(list(range(20, 37)), 36)
    decoder.call([1] * 17, 1)
    decoder.call([1] * 17, 1)


@BOTH
def test_decoder_beyond_the_trained_length(kernels, dtype):
    decoder = Decoder(kernels, dtype, 2, 2400, layers=1, heads=2, logn=2048)
    decoder.call([2304, 2040], 2304)
    decoder.call([1, 9], 9)


def test_decoder_leaves_a_full_cache_alone(kernels):
    decoder = Decoder(kernels, torch.float16, 1, 8, layers=1)
    decoder.call([8], 8)
    before = [cache.clone() for cache in decoder.caches]
    x = normal(1, 1, decoder.hidden)
    decoder.kernels.stage("decoder_prefill", x=x, y=x, k_cache=decoder.caches[0], v_cache=decoder.caches[1],
                          lengths=int_tensor([1]), positions=int_tensor([8]), inv_freq=decoder.inv_freq,
                          **decoder.weights, batch=1, seq=1, tokens=1, hidden=decoder.hidden, layers=1,
                          heads=decoder.heads, mlp_width=decoder.mlp, capacity=8, logn_length=0, epsilon=1e-6, dtype=0)
    assert all(torch.equal(*pair) for pair in zip(before, decoder.caches, strict=True))


@WEIGHTS
@pytest.mark.parametrize("hidden,vocab", [(256, 1003), (1024, 5000)])
def test_lm_head(kernels, dtype, format, hidden, vocab):
    batch, seq, columns = 3, 11, 2
    vocab -= vocab % 8 if format else 0  # rows that stand together
    x = normal(batch, seq, hidden, dtype=dtype)
    ln_f, weight = normal(hidden, dtype=dtype), normal(vocab, hidden, dtype=dtype, scale=hidden ** -0.5)
    if format:
        weight = reference.held_weight(format, weight)
    picked = [[0, 4], [3, 10], [6, 5]]
    rows = torch.stack([x[b, c] for b, c in enumerate(picked)])
    exact = reference.lm_head(rows, ln_f, weight, torch.float32)
    best = exact[:, -1].argmax(-1).tolist()
    logits = torch.full((batch, columns, vocab), math.nan, device="cuda")
    state = dict(positions=int_tensor([7, 0, 5]), next_tokens=int_tensor([[-5]] * 3, torch.int64),
                 generated=int_tensor([[-7] * 4] * 3, torch.int64), counts=int_tensor([0, 2, 1]),
                 finished=int_tensor([0, 0, 1]))
    kernels.stage("lm_head", x=x, logit_columns=int_tensor(picked), lengths=int_tensor([5, 11, 6]),
                  stop_tokens=int_tensor([-1, best[1]], torch.int64), ln_f_weight=ln_f,
                  lm_head_weight=kernels.pack(weight, format) if format else weight, logits=logits, **state,
                  batch=batch, seq=seq, columns=columns, hidden=hidden, vocab=vocab, stop_count=2, generated_slots=4,
                  epsilon=1e-6, dtype=DTYPES[dtype], format=format)
    assert_as_good(logits, reference.lm_head(rows, ln_f, weight, dtype), exact)
    assert {k: v.tolist() for k, v in state.items()} == {
        "positions": [12, 11, 5], "next_tokens": [[best[0]], [best[1]], [-5]],
        "generated": [[best[0], -7, -7, -7], [-7, -7, best[1], -7], [-7] * 4], "counts": [1, 3, 1],
        "finished": [0, 1, 1]}


def test_a_captured_prefill_serves_other_lengths(kernels):
    decoder = Decoder(kernels, torch.float16, 2, 64)
    x, y = normal(2, 20, decoder.hidden), torch.zeros(2, 20, decoder.hidden, device="cuda", dtype=torch.float16)
    lengths = int_tensor([20, 20])
    run = kernels.prepare_stage(
        "decoder_prefill", x=x, y=y, k_cache=decoder.caches[0], v_cache=decoder.caches[1], lengths=lengths,
        positions=int_tensor([0, 0]), inv_freq=decoder.inv_freq, **decoder.weights, batch=2, seq=20, tokens=40,
        hidden=decoder.hidden, layers=2, heads=decoder.heads, mlp_width=decoder.mlp, capacity=64, logn_length=0,
        epsilon=1e-6, dtype=0)
    run()
    whole = y.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    y.zero_()
    lengths.copy_(int_tensor([20, 3]))
    graph.replay()
    torch.cuda.synchronize()
    assert torch.allclose(y[0].float(), whole[0].float(), atol=2e-2)
    assert torch.allclose(y[1, :3].float(), whole[1, :3].float(), atol=2e-2) and not y[1, 3:].any()


def test_a_small_workspace_is_refused(kernels):
    arguments = kernels.struct("decoder_prefill", batch=1, seq=1, tokens=1, hidden=256, layers=1, heads=2,
                               mlp_width=64, capacity=8)
    with pytest.raises(RuntimeError, match="workspace"):
        kernels.check(kernels.so.qwen_vl_decoder_prefill(kernels.context, ctypes.byref(arguments), None,
                                                         ctypes.c_size_t(0), None))
