"""The vision encoder's and the resampler's kernels against torch in fp32; the error may be 1.25 x torch's own."""

import ctypes
import math

import pytest

from tests.gpu.kernels import need_gpu

need_gpu()
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from tests.gpu import prefill_reference as reference  # noqa: E402
from tests.gpu.prefill_library import DTYPES, assert_as_good  # noqa: E402

pytestmark = pytest.mark.gpu
pytest_plugins = ["tests.gpu.prefill_fixtures"]
BOTH = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(6)


@BOTH
@pytest.mark.parametrize("images,side,patch", [(1, 28, 14), (3, 70, 14), (2, 32, 16)])
def test_patches(kernels, dtype, images, side, patch):
    pixels = torch.randn(images, 3, side, side, device="cuda")
    columns = -(-3 * patch * patch // 8) * 8
    rows = torch.full((images, (side // patch) ** 2, columns), math.nan, device="cuda", dtype=dtype)
    kernels.plain("patches", pixels, rows, images, side, patch, columns, DTYPES[dtype])
    expected = F.unfold(pixels, patch, stride=patch).transpose(1, 2).to(dtype)
    assert torch.equal(rows[..., :3 * patch * patch], expected) and not rows[..., 3 * patch * patch:].any()


@BOTH
def test_gelu(kernels, dtype):
    x = torch.cat([torch.randn(1000, device="cuda"), torch.linspace(-9, 9, 1000, device="cuda")]).to(dtype)
    same, exact = F.gelu(x), F.gelu(x.float())
    kernels.plain("gelu", x, ctypes.c_longlong(x.numel()), DTYPES[dtype])
    assert_as_good(x, same, exact)
    assert float((x.float() - exact).abs().max()) <= 1.01 * float((same.float() - exact).abs().max())


@BOTH
@pytest.mark.parametrize("head_dim", [64, 104, 128])
@pytest.mark.parametrize("groups,queries,keys", [(1, 1024, 1024), (2, 25, 25), (3, 256, 1000), (2, 65, 129)])
def test_full_attention(kernels, dtype, head_dim, groups, queries, keys):
    heads = 4
    q = torch.randn(groups, queries, heads, head_dim, device="cuda").to(dtype)
    kv = torch.randn(groups, keys, 2, heads, head_dim, device="cuda").to(dtype)
    out = torch.full((groups, queries, heads, head_dim), math.nan, device="cuda", dtype=dtype)
    width = heads * head_dim
    kernels.kernel("attention", q=q, k=kv, v=kv[:, :, 1], out=out, query_row=width, query_head=head_dim,
                   query_group=queries * width, key_row=2 * width, key_head=head_dim, key_group=keys * 2 * width,
                   out_row=width, out_head=head_dim, out_group=queries * width, groups=groups, heads=heads,
                   head_dim=head_dim, query_rows=queries, key_rows=keys, scale=head_dim ** -0.5, dtype=DTYPES[dtype])

    def expected(kind):
        return reference.attend(q.transpose(1, 2).to(kind), kv[:, :, 0].transpose(1, 2).to(kind),
                                kv[:, :, 1].transpose(1, 2).to(kind)).transpose(1, 2)
    assert_as_good(out, expected(dtype), expected(torch.float32))


@BOTH
@pytest.mark.parametrize("images,side,heads,head_dim,mlp", [(1, 448, 2, 104, 1024), (3, 70, 3, 64, 200)])
def test_vision_encoder(kernels, dtype, images, side, heads, head_dim, mlp):
    layers, width, patch, columns = 2, heads * head_dim, 14, 592
    patches = (side // patch) ** 2
    weights = reference.random_weights({
        "patch_weight": [width, columns], "position": [patches, width], "ln_pre_weight": [width],
        "ln_pre_bias": [width], "ln_1_weight": [layers, width], "ln_1_bias": [layers, width],
        "qkv_weight": [layers, 3 * width, width], "qkv_bias": [layers, 3 * width],
        "out_weight": [layers, width, width], "out_bias": [layers, width], "ln_2_weight": [layers, width],
        "ln_2_bias": [layers, width], "fc1_weight": [layers, mlp, width], "fc1_bias": [layers, mlp],
        "fc2_weight": [layers, width, mlp], "fc2_bias": [layers, width]}, dtype, 1)
    pixels = torch.randn(images, 3, side, side, device="cuda")
    y = torch.full((images, patches, width), math.nan, device="cuda", dtype=dtype)
    kernels.stage("vision_encoder", pixels=pixels, y=y, **weights, images=images, image_size=side, patch_size=patch,
                  patch_columns=columns, width=width, layers=layers, heads=heads, mlp_width=mlp, epsilon=1e-6,
                  dtype=DTYPES[dtype])
    exact = reference.vision_encoder(pixels, weights, patch, heads, torch.float32)
    assert_as_good(y, reference.vision_encoder(pixels, weights, patch, heads, dtype), exact)


@BOTH
@pytest.mark.parametrize("images,patches,width,embed,queries", [(1, 1024, 208, 256, 256), (3, 25, 72, 384, 17)])
def test_resampler(kernels, dtype, images, patches, width, embed, queries):
    heads = embed // 128
    weights = reference.random_weights({
        "kv_proj_weight": [embed, width], "ln_kv_weight": [embed], "ln_kv_bias": [embed], "query": [queries, embed],
        "key_value_weight": [2 * embed, embed], "key_bias": [patches, embed], "value_bias": [embed],
        "out_weight": [embed, embed], "out_bias": [embed], "ln_post_weight": [embed], "ln_post_bias": [embed],
        "proj_weight": [embed, embed]}, dtype, 2)
    x = torch.randn(images, patches, width, device="cuda").to(dtype)
    y = torch.full((images, queries, embed), math.nan, device="cuda", dtype=dtype)
    kernels.stage("resampler", x=x, y=y, **weights, images=images, patches=patches, width=width, embed=embed,
                  queries=queries, heads=heads, epsilon=1e-6, dtype=DTYPES[dtype])
    assert_as_good(y, reference.resampler(x, weights, heads, dtype),
                   reference.resampler(x.float(), weights, heads, torch.float32))
