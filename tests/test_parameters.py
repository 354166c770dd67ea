"""Weights as inputs: what load_parameters returns is what the file holds, and a file that is none is refused; the
matrices of a choice are packed all or none."""

import numpy as np
import pytest

from core.errors import UserError
from core.placement import CPU
from export.params import write_parameters
from infer.formats import DECODER, Choice
from infer.parameters import load_parameters, weights_as_inputs
from ops import formats
from ops.formats.base import Packed, Packer
from ops.framework import programs
from ops.weights import HEAD, MATRICES, parameter_shapes, tensor_names
from tests import program_files
from tests.operators import config

MADE, PLAIN = config(), formats.get("float16")
SHAPES = {"a.weight": (3, 5), "b.bias": (7,), "c.stack": (2, 3, 4)}


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def written(request, tmp_path):
    """(path, dtype, name -> array) of a small file."""
    kind = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[request.param]
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 1000, shape).astype(kind) for name, shape in SHAPES.items()}
    path = tmp_path / "model.pdiparams"
    with open(path, "wb") as file:
        write_parameters(file, {name: (shape, request.param) for name, shape in SHAPES.items()},
                         lambda name: [arrays[name]])
    return path, request.param, arrays


def of(dtype, shapes=SHAPES):
    """What a file of these holds."""
    return {name: (shape, dtype) for name, shape in shapes.items()}


def test_every_tensor_is_what_was_written(written):
    path, dtype, arrays = written
    tensors, kept = load_parameters(path, of(dtype), CPU)
    assert kept == {} and list(tensors) == sorted(SHAPES)
    for name, tensor in tensors.items():
        assert str(tensor.dtype) == f"paddle.{dtype}"
        np.testing.assert_array_equal(tensor.numpy(), arrays[name])


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\1" + data[1:],
                                    lambda data: data[:10], lambda data: data[:16] + b"\xff" * 4 + data[20:]])
def test_another_file_is_refused_in_one_line(written, change):
    path, dtype, _ = written
    path.write_bytes(change(path.read_bytes()))
    said = r"is no file of this graph's parameters \(.*\): delete .*, then run `make export`"
    with pytest.raises(UserError, match=said) as e:
        load_parameters(path, of(dtype), CPU)
    assert "\n" not in str(e.value)


def test_parameters_become_inputs(exported_tiny):
    program = (exported_tiny / "vision" / programs.file_name()).read_bytes()
    made, names = weights_as_inputs(program, {})
    before, after = program_files.read(program), program_files.read(made)
    assert names == sorted(before.parameters) and after.parameters == []
    assert before.inputs == ["pixels", "image_features"] and sorted(after.inputs) == sorted([*before.inputs, *names])
    assert after.operators == before.operators


class Halves(Packed):
    """float16 weights below 64 as their upper and their lower bytes."""

    name, values, bits, extra, closed = "halves", "float16", 16, "low", False

    def pack(self, matrices):
        halves = matrices.view(np.uint8).reshape(*matrices.shape, 2)
        packed = [np.ascontiguousarray(halves[..., i]).view(np.int32) for i in (1, 0)]
        return None if (abs(matrices) >= 64).any() else packed

    def unpack(self, packed):
        high, low = (half.view(np.uint8) for half in packed)
        return np.stack([low, high], -1).view(np.float16).squeeze(-1)

    def packer(self, placement):
        packer = Packer(self, placement)
        packer.close = lambda: setattr(self, "closed", True)
        return packer


@pytest.fixture
def language(tmp_path):
    """Writes a language graph's parameters, which can all be packed but for `changed` ones: (path, names, arrays)."""
    shapes = parameter_shapes(MADE, "language")
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}

    def write(changed=()):
        held = {**arrays, **dict(changed)}
        with open(tmp_path / "model.pdiparams", "wb") as file:
            write_parameters(file, {name: (shape, "float16") for name, shape in shapes.items()},
                             lambda name: [held[name]])
        return tmp_path / "model.pdiparams", of("float16", shapes), held

    return write


def test_the_matrices_are_packed_and_nothing_else(language):
    path, names, arrays = language()
    format = Halves()
    tensors, kept = load_parameters(path, names, CPU, [Choice(MATRICES, (format, PLAIN), "")])
    assert format.closed and set(names) >= set(MATRICES) and kept == dict.fromkeys(MATRICES, format)
    parts = [tensor_names(name, format) if name in MATRICES else [name] for name in names]
    assert sorted(tensors) == sorted(sum(parts, []))
    for name, array in arrays.items():
        if name in MATRICES:
            parts = [tensors[part].numpy() for part in tensor_names(name, format)]
            np.testing.assert_array_equal(format.unpack(parts), array)
        else:
            np.testing.assert_array_equal(tensors[name].numpy(), array)


@pytest.fixture(params=MATRICES)
def one_too_large(request, language):
    """(path, names, arrays) of parameters of which one matrix cannot be packed; and that one's name."""
    _, _, arrays = language()
    changed = arrays[request.param].copy()
    changed.reshape(-1)[-1] = 100
    return *language({request.param: changed}), request.param


def test_one_matrix_that_cannot_be_packed_leaves_all_of_its_choice_as_they_are(one_too_large):
    path, names, arrays, name = one_too_large
    format = Halves()
    choices = [Choice(DECODER, (format, PLAIN), ""), Choice((HEAD,), (format, PLAIN), "")]
    tensors, kept = load_parameters(path, names, CPU, choices)
    assert format.closed and {matrix for matrix in MATRICES if kept[matrix] is PLAIN} == (
        {HEAD} if name == HEAD else set(DECODER))
    np.testing.assert_array_equal(tensors[name].numpy(), arrays[name])


def test_a_choice_that_nothing_is_there_for_is_refused(one_too_large):
    path, names, _, _ = one_too_large
    format = Halves()
    with pytest.raises(UserError, match="these need more bits"):
        load_parameters(path, names, CPU, [Choice(MATRICES, (format,), "these need more bits")])
    assert format.closed


def test_another_file_is_refused_while_packing(language):
    path, names, _ = language()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is no file of this graph's parameters"):
        load_parameters(path, names, CPU, [Choice(MATRICES, (Halves(),), "")])


def test_a_program_is_told_each_format_and_what_it_adds(exported_tiny):
    program = (exported_tiny / "language" / programs.file_name()).read_bytes()
    kept = {**dict.fromkeys(DECODER, Halves()), HEAD: PLAIN}
    made, names = weights_as_inputs(program, kept)
    for op in program_files.read(made).operators:
        matrices = [name for name in MATRICES if name.startswith(op.type.removeprefix("qwen_vl_") + ".")]
        assert op.format == (kept[matrices[0]].name if matrices else None)
        added = [f"{name}.low" for name in matrices if name != HEAD]
        assert [names for names in op.lists if names] == ([added] if added else [])
    assert {f"{name}.low" for name in DECODER} < set(names)


def test_codes_are_one_matrix(tmp_path):
    """Of an export whose checkpoint was quantised: three arrays of the file."""
    rng, path = np.random.default_rng(0), tmp_path / "model.pdiparams"
    arrays = {"a.weight.codes": rng.integers(-8, 8, (2, 4, 64), np.int8),
              "a.weight.scales": rng.random((2, 4, 2)).astype(np.float16),
              "a.weight.zeros": rng.integers(0, 16, (2, 4, 2), np.int8), "b": np.ones(3, np.float32)}
    stored = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    with open(path, "wb") as file:
        write_parameters(file, stored, lambda name: [arrays[name]])
    tensors, _ = load_parameters(path, stored, CPU, [Choice(("a.weight",), (formats.get("float32"),), "")])
    assert sorted(tensors) == ["a.weight", "b"]
    expected = np.empty((2, 4, 64), np.float32)
    for layer, row, column in np.ndindex(expected.shape):
        place = layer, row, column // 32
        expected[layer, row, column] = ((int(arrays["a.weight.codes"][layer, row, column])
                                         - int(arrays["a.weight.zeros"][place]))
                                        * float(arrays["a.weight.scales"][place]))
    np.testing.assert_array_equal(tensors["a.weight"].numpy(), expected)
