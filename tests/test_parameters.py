"""Weights as inputs: what load_parameters returns is what the file holds, and a file that is none is refused."""

import numpy as np
import pytest

from core.errors import UserError
from export.params import write_parameters
from infer.graph import import_paddle
from infer.parameters import load_parameters, weights_as_inputs

import_paddle()
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
    tensors = load_parameters(path, sorted(SHAPES), "cpu")
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
        load_parameters(path, sorted(SHAPES), "cpu")
    assert "\n" not in str(e.value)


def test_parameters_become_inputs_behind_the_others(exported_tiny):
    from paddle.base.proto import framework_pb2

    program = (exported_tiny / "vision" / "model.pdmodel").read_bytes()
    made, names = weights_as_inputs(program)
    before, after = (framework_pb2.ProgramDesc.FromString(text).blocks[0] for text in (program, made))
    feeds = {op.outputs[0].arguments[0]: next(a.i for a in op.attrs if a.name == "col")
             for op in after.ops if op.type == "feed"}
    assert sorted(feeds, key=feeds.get) == ["pixels", "image_features", *names]
    assert names == sorted(v.name for v in before.vars if v.persistable and v.name not in ("feed", "fetch"))
    assert not any(v.persistable for v in after.vars if v.name in names)
    assert [op.type for op in after.ops if op.type != "feed"] == [op.type for op in before.ops if op.type != "feed"]
