"""Weights as inputs: what load_parameters returns is what the file holds, and a file that is none is refused; matrices
are packed all or none."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import UserError
from core.placement import CPU, Placement
from export.params import write_parameters
from infer.graph import Graph
from infer.parameters import load_packed, load_parameters
from ops import e5m7
from ops.framework.programs import parameters_as_inputs
from ops.weights import MATRICES, parameter_shapes
from tests import e5m7_reference
from tests.operators import config

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


def test_parameters_become_inputs_behind_the_others(exported_tiny):
    from paddle.base.proto import framework_pb2

    program = (exported_tiny / "vision" / "model.pdmodel").read_bytes()
    made, names = parameters_as_inputs(program)
    before, after = (framework_pb2.ProgramDesc.FromString(text).blocks[0] for text in (program, made))
    feeds = {op.outputs[0].arguments[0]: next(a.i for a in op.attrs if a.name == "col")
             for op in after.ops if op.type == "feed"}
    assert sorted(feeds, key=feeds.get) == ["pixels", "image_features", *names]
    assert names == sorted(v.name for v in before.vars if v.persistable and v.name not in ("feed", "fetch"))
    assert not any(v.persistable for v in after.vars if v.name in names)
    assert [op.type for op in after.ops if op.type != "feed"] == [op.type for op in before.ops if op.type != "feed"]


class PackerOnCpu(e5m7.Packer):
    """Packs by the reference, slice by slice as on a GPU; what cannot be packed is told from the slice."""

    def __init__(self):
        self.slices, self.closed = [], False

    def _pack_slice(self, values, to):
        self.slices.append(values.shape)
        if e5m7_reference.failures(values):
            return False
        packed = e5m7_reference.pack(values)
        ctypes.memmove(to, packed.ctypes.data, packed.nbytes)
        return True

    def close(self):
        self.closed = True


def packable(*shape):
    """float16 numbers that came from bfloat16."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32).view(np.uint32) & 0xFFFF0000
    return values.view(np.float32).astype(np.float16)


@pytest.mark.parametrize("limit", [1, 4096, 15000, 1 << 20])
@pytest.mark.parametrize("shape", [(3, 16, 256), (24, 384)])
def test_slices_make_the_packed_matrix(monkeypatch, shape, limit):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", limit)
    matrices, packer = packable(*shape), PackerOnCpu()
    packed = packer.pack(matrices).numpy().view(np.uint32)
    assert packed.shape == (*shape[:-1], shape[-1] // 128 * 52)
    for made, matrix in zip(packed.reshape(-1, shape[-2], packed.shape[-1]), matrices.reshape(-1, *shape[-2:])):
        np.testing.assert_array_equal(made, e5m7_reference.pack(matrix))
    assert all(rows % 8 == 0 and rows * columns * 2 <= max(limit, 16 * columns) for rows, columns in packer.slices)


@pytest.mark.parametrize("rows, columns", [(8, 4096), (24, 128), (151936, 4096), (32 * 4096, 11008)])
def test_slices_follow_one_another(rows, columns):
    made = e5m7.slices(rows, columns)
    assert [first for first, _ in made] == [0, *(end for _, end in made[:-1])] and made[-1][1] == rows
    assert all(first < end and first % 8 == 0 and (end - first) * columns * 2 <= 64 << 20 for first, end in made)


@pytest.mark.parametrize("matrix", [packable(8, 192), packable(12, 256), packable(8, 128).astype(np.float32),
                                    np.full([8, 128], 1 + 2 ** -8, np.float16), np.full([8, 128], 64, np.float16)])
def test_other_matrices_are_not_packed(matrix):
    assert PackerOnCpu().pack(matrix) is None


@pytest.fixture
def language(tmp_path):
    """Writes a language graph's parameters, which can all be packed but for `changed` ones: (path, names, arrays)."""
    shapes = parameter_shapes(config(intermediate_size=256, vocab_size=96), "language")
    arrays = {name: packable(*shape) for name, shape in shapes.items()}

    def write(changed=()):
        held = {**arrays, **dict(changed)}
        with open(tmp_path / "model.pdiparams", "wb") as file:
            write_parameters(file, shapes, "float16", lambda name: [held[name]])
        return tmp_path / "model.pdiparams", sorted(shapes), held

    return write


def test_the_matrices_are_packed_and_nothing_else(language):
    path, names, arrays = language()
    packer = PackerOnCpu()
    tensors, packed = load_packed(path, names, CPU, packer)
    assert packed and packer.closed and list(tensors) == names and set(names) >= MATRICES
    for name, tensor in tensors.items():
        if name in MATRICES:
            whole = tensor.numpy().view(np.uint32).reshape(-1, tensor.shape[-1])
            np.testing.assert_array_equal(whole, e5m7_reference.pack(arrays[name].reshape(-1, arrays[name].shape[-1])))
        else:
            np.testing.assert_array_equal(tensor.numpy(), arrays[name])


@pytest.mark.parametrize("name", sorted(MATRICES))
def test_one_weight_that_cannot_be_packed_leaves_all_as_they_are(language, name):
    path, names, arrays = language()
    changed = arrays[name].copy()
    changed.reshape(-1)[-1] = 100
    path, names, arrays = language({name: changed})
    packer = PackerOnCpu()
    tensors, packed = load_packed(path, names, CPU, packer)
    assert not packed and packer.closed and list(tensors) == names
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[name])


def test_another_file_is_refused_while_packing(language):
    path, names, _ = language()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is no file of this graph's parameters"):
        load_packed(path, names, CPU, PackerOnCpu())


def test_a_packer_that_fails_says_so_itself(language, monkeypatch):
    path, names, _ = language()
    monkeypatch.setattr(PackerOnCpu, "_pack_slice", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_packed(path, names, CPU, PackerOnCpu())


@pytest.mark.parametrize("graph, dtype, device, read, pack, packs", [
    ("language", "float16", "gpu", True, True, True), ("language", "float16", "gpu", True, False, False),
    ("language", "float16", "gpu", False, True, False), ("language", "bfloat16", "gpu", True, True, False),
    ("vision", "float16", "gpu", True, True, False), ("language", "float32", "cpu", True, True, False)])
@pytest.mark.parametrize("head_dim, packable", [(128, True), (128, False), (72, True)])
def test_where_matrices_are_packed(monkeypatch, graph, dtype, device, read, pack, packs, head_dim, packable):
    monkeypatch.setattr(e5m7, "is_read_here", lambda: read)
    monkeypatch.setattr(e5m7, "Packer", lambda placement: ("packer", placement))
    monkeypatch.setattr("infer.graph.load_packed", lambda *args: ({"tried": args}, packable))
    monkeypatch.setattr("infer.graph.load_parameters", lambda *args: {"plain": args})
    made = SimpleNamespace(weights=dtype, manifest=SimpleNamespace(
        graph=graph, dtype=dtype, config=SimpleNamespace(kv_channels=head_dim)))
    packs, placement = packs and head_dim % 16 == 0, Placement(device)
    tensors = Graph._load(made, "path", ["a"], placement, pack)
    given = ("path", ["a"], placement)
    assert tensors == ({"tried": (*given, ("packer", placement))} if packs else {"plain": given})
    assert made.weights == ("e5m7" if packs and packable else dtype)
