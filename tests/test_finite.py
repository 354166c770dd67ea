"""NaN and infinite weights are found when they are read, with the tensor's name; finite values of any size pass."""

import pickle

import numpy as np
import pytest
from checkpoint_files import copy_golden, golden_tensors, one_line_error, run, write_checkpoint
from safetensors.numpy import save_file

from core.errors import UserError
from export.convert import convert
from export.readers import pdparams, safetensors
from export.stored import Source, StoredTensor

NAME = "transformer.h.1.mlp.w2.weight"
BITS = {"float32": (np.uint32, 0x7F800000), "float16": (np.uint16, 0x7C00), "bfloat16": (np.uint16, 0x7F80)}


def stored(path, bits, dtype, shape=None, strides=None):
    """A StoredTensor over values that are given as their bits."""
    path.write_bytes(bits.tobytes())
    shape = shape or bits.shape
    return StoredTensor.checked("w", Source(path), 0, shape, dtype, bits.nbytes, strides)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("beyond, words", [(0, "infinity"), (1, "NaN"), ("all", "NaN")])
def test_one_value_that_is_not_finite(tmp_path, dtype, sign, beyond, words):
    kind, infinity = BITS[dtype]
    top = 1 << 8 * np.dtype(kind).itemsize - 1
    for place in (0, 500, 999):
        bits = np.zeros(1000, kind)
        bits[place] = (top - 1 if beyond == "all" else infinity + beyond) | sign * top
        for read in (lambda tensor: tensor.read(), lambda tensor: tensor.map(), lambda tensor: list(tensor.blocks())):
            with pytest.raises(UserError, match=rf"tensor 'w' holds {words} \(1 of 1000 values"):
                read(stored(tmp_path / "f", bits, dtype))


@pytest.mark.parametrize("dtype", BITS)
def test_all_finite_values_pass(tmp_path, dtype):
    kind, infinity = BITS[dtype]
    top = 1 << 8 * np.dtype(kind).itemsize - 1
    bits = np.array([0, 1, infinity - 1, top, top + 1, infinity - 1 | top], kind)
    tensor = stored(tmp_path / "f", bits, dtype)
    assert tensor.read().view(kind).tolist() == tensor.map().view(kind).tolist() == bits.tolist()


def test_what_lies_between_the_values_does_not_count(tmp_path):
    """A part of a larger tensor, as torch.save stores a view."""
    values = np.array([1, np.nan, 2, np.nan], np.float32)
    assert stored(tmp_path / "f", values, "float32", (2,), (2,)).read().tolist() == [1, 2]
    with pytest.raises(UserError, match="1 of 2 values"):
        stored(tmp_path / "f", values[[0, 1, 1, 2]], "float32", (2,), (2,)).read()


def test_a_mapping_is_private(tmp_path):
    tensor = stored(tmp_path / "f", np.ones(4, np.float32), "float32")
    tensor.map()[:] = 3
    assert tensor.read().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("value, words", [(np.nan, "NaN"), (-np.inf, "infinity")])
@pytest.mark.parametrize("command", [["export.convert"], ["export", "language"]])
def test_commands_name_the_tensor(tmp_path, command, value, words):
    arrays = golden_tensors()
    arrays[NAME] = arrays[NAME].copy()
    arrays[NAME][3, 5] = value
    message = one_line_error(run("-m", *command, write_checkpoint(tmp_path / "c", arrays), tmp_path / "out"))
    assert f"tensor '{NAME}' holds {words}" in message and "use an earlier checkpoint" in message
    assert not (tmp_path / "out" / "model_state.pdparams").exists() and not list(tmp_path.glob("*partial*"))


def test_it_is_found_in_the_conversion_of_every_format(tmp_path):
    convert(copy_golden(tmp_path / "c"), tmp_path / "sound")
    with open(tmp_path / "sound" / "model_state.pdparams", "rb") as file:
        arrays = pickle.load(file)  # our own file
    name = NAME.replace("transformer", "qwen")
    arrays[name] = arrays[name].copy()
    arrays[name][7, 7] = np.nan
    (tmp_path / "sound" / "model_state.pdparams").write_bytes(pickle.dumps(arrays, protocol=4))
    with pytest.raises(UserError, match=name):
        convert(tmp_path / "sound", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_buffers_are_not_looked_at(tmp_path):
    arrays = {**golden_tensors(), "transformer.h.1.attn.masked_bias": np.full(1, -np.inf, np.float32)}
    convert(write_checkpoint(tmp_path / "c", arrays), tmp_path / "out")


def test_integers_are_no_floats(tmp_path):
    save_file({"a": np.full(4, -1, np.int32), "b": np.full(4, 0xFFFF, np.uint16)}, tmp_path / "f")
    assert safetensors.read(tmp_path / "f")["a"].read().tolist() == [-1] * 4
    (tmp_path / "p").write_bytes(pickle.dumps({"a": np.full(4, -1, np.int16)}, protocol=4))
    assert pdparams.read(tmp_path / "p")["a"].read().tolist() == [-1] * 4
