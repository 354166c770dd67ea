"""Stacked roles of the golden checkpoint against plain NumPy on its tensors, and rounding to half precision."""

import numpy as np
import pytest
from checkpoint_files import GOLDEN, golden_config, golden_tensors, write_checkpoint

from core.config import ModelConfig
from core.errors import UserError
from export.checkpoint import open_checkpoint
from export.convert import convert
from export.dtypes import cast
from export.names import parameters
from export.stack import stacked
from ops.weights import parameter_shapes

T = golden_tensors()
V, B, P = "transformer.visual.", "transformer.visual.transformer.resblocks.{}.", "transformer.visual.attn_pool."
HEADS, HEAD = 2, 104


def layers(pattern):
    return np.stack([T[pattern.format(i)] for i in range(2)])


def de_interleaved(pattern):
    """Rows q0 q1 k0 k1 v0 v1 from rows q0 k0 v0 q1 k1 v1, picked one by one."""
    order = [(head * 3 + part) * HEAD + row for part in range(3) for head in range(HEADS) for row in range(HEAD)]
    return layers(pattern)[:, order]


EXPECTED = {
    "vision_encoder.patch_weight": lambda: np.hstack([T[V + "conv1.weight"].reshape(208, 588), np.zeros((208, 4))]),
    "vision_encoder.ln_pre_weight": lambda: T[V + "ln_pre.weight"],
    "vision_encoder.ln_pre_bias": lambda: T[V + "ln_pre.bias"],
    "vision_encoder.ln_1_weight": lambda: layers(B + "ln_1.weight"),
    "vision_encoder.ln_1_bias": lambda: layers(B + "ln_1.bias"),
    "vision_encoder.qkv_weight": lambda: de_interleaved(B + "attn.in_proj.weight"),
    "vision_encoder.qkv_bias": lambda: de_interleaved(B + "attn.in_proj.bias"),
    "vision_encoder.out_weight": lambda: layers(B + "attn.out_proj.weight"),
    "vision_encoder.out_bias": lambda: layers(B + "attn.out_proj.bias"),
    "vision_encoder.ln_2_weight": lambda: layers(B + "ln_2.weight"),
    "vision_encoder.ln_2_bias": lambda: layers(B + "ln_2.bias"),
    "vision_encoder.fc1_weight": lambda: layers(B + "mlp.c_fc.weight"),
    "vision_encoder.fc1_bias": lambda: layers(B + "mlp.c_fc.bias"),
    "vision_encoder.fc2_weight": lambda: layers(B + "mlp.c_proj.weight"),
    "vision_encoder.fc2_bias": lambda: layers(B + "mlp.c_proj.bias"),
    "resampler.kv_proj_weight": lambda: T[P + "kv_proj.weight"],
    "resampler.ln_kv_weight": lambda: T[P + "ln_kv.weight"],
    "resampler.ln_kv_bias": lambda: T[P + "ln_kv.bias"],
    "resampler.key_value_weight": lambda: T[P + "attn.in_proj_weight"][256:],
    "resampler.value_bias": lambda: T[P + "attn.in_proj_bias"][512:],
    "resampler.out_weight": lambda: T[P + "attn.out_proj.weight"],
    "resampler.out_bias": lambda: T[P + "attn.out_proj.bias"],
    "resampler.ln_post_weight": lambda: T[V + "ln_post.weight"],
    "resampler.ln_post_bias": lambda: T[V + "ln_post.bias"],
    "resampler.proj_weight": lambda: T[V + "proj"].T,
    "embedding.token_embedding": lambda: T["transformer.wte.weight"],
    "decoder.ln_1_weight": lambda: layers("transformer.h.{}.ln_1.weight"),
    "decoder.qkv_weight": lambda: layers("transformer.h.{}.attn.c_attn.weight"),
    "decoder.qkv_bias": lambda: layers("transformer.h.{}.attn.c_attn.bias"),
    "decoder.out_weight": lambda: layers("transformer.h.{}.attn.c_proj.weight"),
    "decoder.ln_2_weight": lambda: layers("transformer.h.{}.ln_2.weight"),
    "decoder.gate_up_weight": lambda: np.concatenate(
        [layers("transformer.h.{}.mlp.w2.weight"), layers("transformer.h.{}.mlp.w1.weight")], axis=1),
    "decoder.down_weight": lambda: layers("transformer.h.{}.mlp.c_proj.weight"),
    "lm_head.ln_f_weight": lambda: T["transformer.ln_f.weight"],
    "lm_head.lm_head_weight": lambda: T["lm_head.weight"],
}
COMPUTED = {"vision_encoder.position", "resampler.query", "resampler.key_bias"}  # see test_fold.py


def collect(checkpoint, name, dtype="float32"):
    shape = {**parameter_shapes(checkpoint.config, "vision"), **parameter_shapes(checkpoint.config, "language")}[name]
    return np.concatenate([a.reshape(-1) for a in stacked(checkpoint, name, dtype)]).reshape(shape)


@pytest.fixture(scope="module", params=["Hugging Face", "converted"])
def checkpoint(request, tmp_path_factory):
    if request.param == "converted":
        return open_checkpoint(convert(GOLDEN, tmp_path_factory.mktemp("converted") / "c"))
    return open_checkpoint(GOLDEN)


def test_every_role_is_covered(checkpoint):
    roles = {*parameter_shapes(checkpoint.config, "vision"), *parameter_shapes(checkpoint.config, "language")}
    assert roles == {*EXPECTED, *COMPUTED}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_role(checkpoint, name):
    np.testing.assert_array_equal(collect(checkpoint, name), EXPECTED[name]())


@pytest.mark.parametrize("role", ["vision_encoder.qkv_weight", "decoder.gate_up_weight"])
def test_a_layer_alone_is_a_slice_of_the_stack(checkpoint, role):
    for layer, expected in enumerate(EXPECTED[role]()):
        rows = np.concatenate(list(stacked(checkpoint, f"{role}.{layer}", "float32")))
        np.testing.assert_array_equal(rows, expected)


def test_kv_proj_is_an_identity_where_the_model_has_none(tmp_path):
    config = golden_config()
    config["visual"].update(width=256, heads=2, layers=1)
    shapes = {p.name: p.shape for p in parameters(ModelConfig.from_dict(config))}
    assert P + "kv_proj.weight" not in shapes
    folder = write_checkpoint(tmp_path / "c", {n: np.ones(s, np.float32) for n, s in shapes.items()}, config=config)
    np.testing.assert_array_equal(collect(open_checkpoint(folder), "resampler.kv_proj_weight"), np.eye(256))


def test_rounding_is_to_nearest_even():
    exact = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.0e38, 2**-133, 0, np.nan, np.inf], np.float32)
    bits = cast(exact, "float32", "bfloat16", "x")
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    expected = np.array([1, 1, 1 + 2**-6, -1, wide[4], 2**-133, 0, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(wide, expected)
    assert abs(wide[4] - 3.0e38) <= 3.0e38 * 2**-9
    np.testing.assert_array_equal(cast(exact[:4], "float32", "float16", "x"), exact[:4].astype(np.float16))
    np.testing.assert_array_equal(cast(bits[:4], "bfloat16", "float32", "x"), wide[:4])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_roles(checkpoint, dtype):
    wide = collect(checkpoint, "decoder.qkv_weight")
    half = collect(checkpoint, "decoder.qkv_weight", dtype)
    back = cast(half, dtype, "float32", "x")
    assert np.abs(back - wide).max() <= np.abs(wide).max() * 2.0 ** (-11 if dtype == "float16" else -8)


def test_a_value_beyond_float16_names_its_tensor(tmp_path):
    arrays = golden_tensors()
    arrays["transformer.h.1.mlp.w1.weight"][3, 5] = 70000
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "c", arrays))
    with pytest.raises(UserError, match=r"transformer\.h\.1\.mlp\.w1\.weight holds 70000.*DTYPE=bfloat16"):
        collect(checkpoint, "decoder.gate_up_weight", "float16")
    rounded = collect(checkpoint, "decoder.gate_up_weight", "bfloat16")
    assert np.isfinite(cast(rounded, "bfloat16", "float32", "x")).all()
