"""Weights as inputs: what load_parameters returns is what the file holds, and a file that is none is refused; matrices
are packed all or none."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import UserError
from core.placement import CPU, Placement
from export.params import write_parameters
from infer.graph import Graph
from infer.parameters import load_packed, load_parameters, weights_as_inputs
from ops import formats
from ops.formats.base import Packed, Packer
from ops.framework import programs
from ops.weights import MATRICES, parameter_shapes, tensor_names
from tests import program_files
from tests.operators import config

MADE, GPU = config(), Placement("gpu")
SHAPES = {"a.weight": (3, 5), "b.bias": (7,), "c.stack": (2, 3, 4)}


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def written(request, tmp_path):
    """(path, dtype, name -> array) of a small file."""
    kind = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[request.param]
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 1000, shape).astype(kind) for name, shape in SHAPES.items()}
    path = tmp_path / "model.pdiparams"
    with open(path, "wb") as file:
        write_parameters(file, SHAPES, request.param, lambda name: [arrays[name]])
    return path, request.param, arrays


def test_every_tensor_is_what_was_written(written):
    path, dtype, arrays = written
    tensors = load_parameters(path, sorted(SHAPES), CPU)
    assert list(tensors) == sorted(SHAPES)
    for name, tensor in tensors.items():
        assert str(tensor.dtype) == f"paddle.{dtype}"
        np.testing.assert_array_equal(tensor.numpy(), arrays[name])


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\1" + data[1:],
                                    lambda data: data[:10], lambda data: data[:16] + b"\xff" * 4 + data[20:]])
def test_another_file_is_refused_in_one_line(written, change):
    path, _, _ = written
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r"is no file of this graph's parameters \(.*\): run `make export` again") as e:
        load_parameters(path, sorted(SHAPES), CPU)
    assert "\n" not in str(e.value)


def test_parameters_become_inputs(exported_tiny):
    program = (exported_tiny / "vision" / programs.file_name()).read_bytes()
    made, names = weights_as_inputs(program, formats.get("float32"))
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
            write_parameters(file, shapes, "float16", lambda name: [held[name]])
        return tmp_path / "model.pdiparams", sorted(shapes), held

    return write


def test_the_matrices_are_packed_and_nothing_else(language):
    path, names, arrays = language()
    format = Halves()
    tensors = load_packed(path, names, CPU, format)
    assert format.closed and set(names) >= set(MATRICES)
    parts = [tensor_names(name, format) if name in MATRICES else [name] for name in names]
    assert list(tensors) == sum(parts, [])
    for name, array in arrays.items():
        if name in MATRICES:
            parts = [tensors[part].numpy() for part in tensor_names(name, format)]
            np.testing.assert_array_equal(format.unpack(parts), array)
        else:
            np.testing.assert_array_equal(tensors[name].numpy(), array)


@pytest.mark.parametrize("name", MATRICES)
def test_one_matrix_that_cannot_be_packed_leaves_all_as_they_are(language, name):
    path, names, arrays = language()
    changed = arrays[name].copy()
    changed.reshape(-1)[-1] = 100
    path, names, _ = language({name: changed})
    format = Halves()
    assert load_packed(path, names, CPU, format) is None and format.closed


def test_another_file_is_refused_while_packing(language):
    path, names, _ = language()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is no file of this graph's parameters"):
        load_packed(path, names, CPU, Halves())


@pytest.mark.parametrize("graph, values, usable, pack, packs", [
    ("language", "float16", True, True, True), ("language", "float16", True, False, False),
    ("language", "float16", False, True, False), ("language", "bfloat16", True, True, False),
    ("vision", "float16", True, True, False)])
@pytest.mark.parametrize("packable", [True, False])
def test_where_matrices_are_packed(monkeypatch, graph, values, usable, pack, packs, packable):
    format = Halves()
    format.is_usable = lambda *args: usable and args == (MADE, GPU)
    monkeypatch.setattr(formats, "packed", lambda kind: [format] if kind == format.values else [])
    monkeypatch.setattr("infer.graph.load_packed", lambda *args: {"tried": args} if packable else None)
    monkeypatch.setattr("infer.graph.load_parameters", lambda *args: {"plain": args})
    made = SimpleNamespace(weights=values, manifest=SimpleNamespace(graph=graph, dtype=values, config=MADE))
    names = sorted(parameter_shapes(MADE, graph))
    tensors = Graph._load(made, "path", GPU, pack)
    packs = packs and packable
    assert tensors == ({"tried": ("path", names, GPU, format)} if packs else {"plain": ("path", names, GPU)})
    assert made.weights == (format.name if packs else values)


def test_a_program_is_told_the_format_and_what_it_adds(exported_tiny):
    program = (exported_tiny / "language" / programs.file_name()).read_bytes()
    kept = Halves()
    made, names = weights_as_inputs(program, kept)
    for op in program_files.read(made).operators:
        matrices = [name for name in MATRICES if name.startswith(op.type.removeprefix("qwen_vl_") + ".")]
        assert op.format == (kept.name if matrices else None)
        assert op.lists == ([[f"{name}.low" for name in matrices]] if matrices else [])
    assert {f"{name}.low" for name in MATRICES} < set(names)
