"""`make quantize`: a checkpoint in a published layout that means what loading with WEIGHTS= rounds to."""

import json
import struct

import numpy as np
import pytest
from checkpoint_files import golden_tensors, one_line_error, run, write_checkpoint
from gptq_files import gptq_tensors, words, write_gptq
from quantised_files import MATRICES, twin_config

from core.placement import CPU
from export.__main__ import export
from export.checkpoint import open_whole
from export.quantise import _with_half_scales, quantise
from export.synthetic import write_checkpoint as write_synthetic
from export.vocabulary import write_vocabulary
from infer.engine import Engine
from ops import formats
from ops.quantisation import dequantised

PROMPTS = [np.random.default_rng(seed).integers(0, 256, length).tolist() for seed, length in ((1, 7), (2, 40))]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The golden checkpoint with an MLP that groups of 128 divide."""
    rng, tensors = np.random.default_rng(0), golden_tensors()
    for layer in range(2):
        for matrix, shape in MATRICES.items():
            tensors[f"transformer.h.{layer}.{matrix}.weight"] = (
                rng.standard_normal(shape) / 16).astype(np.float16).astype(np.float32)
    source = write_checkpoint(tmp_path_factory.mktemp("plain") / "checkpoint", tensors, config=twin_config())
    write_vocabulary(source / "qwen.tiktoken", 480)
    return source


@pytest.fixture(scope="module", params=["int4", "int8", "fp8"])
def made(request, plain, tmp_path_factory):
    """(format's name, folder, Loss)."""
    folder = tmp_path_factory.mktemp(request.param) / "quantised"
    return request.param, folder, quantise(plain, folder, request.param)


def test_it_is_a_checkpoint_whose_other_tensors_stay(made, plain):
    name, folder, _ = made
    before, after = open_whole(plain), open_whole(folder)
    assert after.quantised.bits == int(formats.get(name).bits) and after.quantised.group == formats.get(name).group
    for tensor_name, tensor in after.tensors.items():
        if tensor.stored == (tensor,):
            np.testing.assert_array_equal(tensor.read(), before.tensors[tensor_name].read())
    assert (folder / "qwen.tiktoken").read_bytes() == (plain / "qwen.tiktoken").read_bytes()
    entry = json.loads((folder / "config.json").read_text())["quantization_config"]
    beside = folder / "quantize_config.json"
    assert beside.exists() == (name != "fp8") and (name == "fp8" or entry == json.loads(beside.read_text()))


def test_words_are_those_of_the_layout(made):
    """Bit by bit, as the tests' own writer has them."""
    name, folder, _ = made
    if name == "fp8":
        pytest.skip("has no words")
    matrix = open_whole(folder).tensors["transformer.h.1.mlp.c_proj.weight"]
    bits = int(formats.get(name).bits)
    stored = matrix.codes().codes.astype(int) + (1 << bits - 1)
    np.testing.assert_array_equal(matrix.parts["qweight"].read(), words(stored.tolist(), bits).T)
    middle = [[(1 << bits - 1) - 1] * 256] * matrix.parts["scales"].shape[0]
    np.testing.assert_array_equal(matrix.parts["qzeros"].read(), words(middle, bits))


def test_codes_are_those_of_loading_the_plain_one(made, plain):
    name, folder, _ = made
    exact, codes = (open_whole(place).tensors["transformer.h.0.attn.c_attn.weight"] for place in (plain, folder))
    rounded = formats.get(name).quantise(exact.read())
    np.testing.assert_allclose(codes.codes().scales, rounded.scales, rtol=2 ** -11)
    if name == "fp8":
        np.testing.assert_array_equal(codes.codes().scales, rounded.scales)
    if name != "int8":   # whose scales are others: float16
        np.testing.assert_array_equal(codes.codes().codes, rounded.codes)


def test_the_loss_of_each_role(made, plain):
    name, folder, loss = made
    before, after = open_whole(plain), open_whole(folder)
    matrices = [f"transformer.h.{layer}.mlp.w2.weight" for layer in range(2)]
    exact, rounded = (np.stack([opened.tensors[matrix].read() for matrix in matrices]) for opened in (before, after))
    expected = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    (line,) = [line for line in loss.lines() if line.startswith("gate")]
    assert float(line.split()[-1]) == pytest.approx(expected, abs=1e-4)
    assert [line.split()[0] for line in loss.lines()] == ["qkv", "out", "up", "gate", "down"]
    origin = json.loads((folder / "quantisation.json").read_text())
    assert origin == {"source_hash": before.hash(), "weights": name, "relative_error": loss.relative()}


@pytest.mark.parametrize("name", ["int4", "fp8"])
def test_tokens_are_those_of_loading_the_plain_one(plain, tmp_path, name):
    quantise(plain, tmp_path / "quantised", name)
    for source in (plain, tmp_path / "quantised"):
        export(("vision", "language"), source, tmp_path / source.name)
    ours, loaded = Engine(tmp_path / "quantised", CPU), Engine(tmp_path / "checkpoint", CPU, f"{name}+float32")
    assert ours.weights == loaded.weights == f"{name}+float32" and ours.step_bytes == loaded.step_bytes
    assert ours.generate(PROMPTS, max_new_tokens=12) == loaded.generate(PROMPTS, max_new_tokens=12)


def test_a_block_of_rows_at_a_time_gives_the_same(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("export.quantise.BLOCK_ROWS", 56)
    quantise(plain, tmp_path / "blocks", "int4")
    monkeypatch.undo()
    quantise(plain, tmp_path / "whole", "int4")
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("blocks", "whole")]
    assert contents[0] == contents[1] and len(contents[0]) > struct.unpack_from("<Q", contents[0])[0]


def test_what_cannot_be_quantised(plain, tmp_path):
    def message(source, weights):
        return one_line_error(run("-m", "export.quantise", source, tmp_path / "out", "--weights", weights))

    assert "WEIGHTS=int4z has no place in the layouts that are written: use one of int8, fp8, int4" in message(
        plain, "int4z")
    assert "WEIGHTS=q has no place" in message(plain, "q")
    quantised = write_gptq(tmp_path / "twice", gptq_tensors()[0])
    assert "quantised already, to 4 bits, groups of 128, and nothing is rounded twice" in message(quantised, "int4")
    tiny = write_synthetic("tiny", tmp_path / "tiny")
    assert "has no whole groups of this size: use int8 or fp8" in message(tiny, "int4")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [1e-8, 1e-6, 1e8])
def test_scales_of_rows_out_of_float16s_range_stay_above_zero_and_finite(size):
    rows = size * np.random.default_rng(0).standard_normal((8, 128)).astype(np.float32)
    made = _with_half_scales(formats.get("int8"), formats.get("int8").quantise(rows), rows)
    assert made.scales.dtype == np.float16 and np.isfinite(made.scales).all() and (made.scales > 0).all()
    assert made.codes.dtype == np.int8 and np.isfinite(dequantised(made)).all()


def test_products_of_codes():
    codes = formats.get("int4").quantise(np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32))
    np.testing.assert_array_equal(formats.get("int4").dequantise(codes), dequantised(codes))
