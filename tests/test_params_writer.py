"""The hand-written parameter file is byte for byte what Paddle saves, and a pdparams file what Paddle loads."""

import numpy as np
import pytest
from checkpoint_files import bfloat16_bits, run_code

from export.params import write_parameters
from export.pdparams_writer import Writer
from ops.framework import programs

SAVE = {"model.pdmodel": """
import sys, zlib, numpy as np, paddle
source, out = sys.argv[1:]
arrays = np.load(source)
paddle.enable_static()
program, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
with paddle.static.program_guard(program, startup), paddle.static.scope_guard(scope):
    variables = []
    for name, array in arrays.items():
        dtype = {"uint16": "bfloat16"}.get(str(array.dtype), str(array.dtype))
        variables.append(program.global_block().create_parameter(name=name, shape=array.shape, dtype=dtype))
        scope.var(name).get_tensor().set(array, paddle.CPUPlace())
    paddle.static.io.save_vars(paddle.static.Executor(paddle.CPUPlace()), out, program, vars=variables, filename="all")
""", "model.json": """
import sys, zlib, numpy as np, paddle
source, out = sys.argv[1:]
arrays = dict(sorted(np.load(source).items()))
tensors = list(map(paddle.to_tensor, arrays.values()))
memory = [tensor.get_tensor() for tensor in tensors]
paddle.base.core.save_combine_func(memory, list(arrays), out + "/all", True, False, False)
"""}[programs.file_name()]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_identical_to_paddles_own_file(tmp_path, dtype):
    random = np.random.default_rng(5)
    shapes = {"b.weight": [3, 129, 40], "a.bias": [7], "a.table": [300, 2], "c": [1, 1, 1, 20000]}
    arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    stored = {name: a.astype(np.float16) if dtype == "float16" else bfloat16_bits(a) if dtype == "bfloat16" else a
              for name, a in arrays.items()}
    np.savez(tmp_path / "in.npz", **stored)
    run_code(SAVE, tmp_path / "in.npz", tmp_path)
    with open(tmp_path / "ours", "wb") as file:
        write_parameters(file, {name: (shape, dtype) for name, shape in shapes.items()},
                         lambda name: np.array_split(stored[name].reshape(-1), 3))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "all").read_bytes()


def test_a_short_parameter_is_noticed(tmp_path):
    with open(tmp_path / "ours", "wb") as file, pytest.raises(ValueError, match="shape"):
        write_parameters(file, {"a": ([4], "float32")}, lambda name: [np.ones(3, np.float32)])


LOAD = """
import sys, zlib, numpy as np, paddle
loaded = paddle.load(sys.argv[1])
assert {n: str(t.dtype) for n, t in loaded.items()} == {
    "float32": "paddle.float32", "float16": "paddle.float16", "bfloat16": "paddle.bfloat16"}
for tensor in loaded.values():
    np.testing.assert_array_equal(tensor.astype("float32").numpy(), np.arange(-6, 6, dtype=np.float32).reshape(3, 4))
"""


def test_paddle_loads_every_type(tmp_path):
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    with open(tmp_path / "model_state.pdparams", "wb") as file:
        writer = Writer(file)
        for dtype, array in (("float32", values), ("float16", values.astype(np.float16)),
                             ("bfloat16", bfloat16_bits(values))):
            writer.begin(dtype, array.shape, dtype, array.nbytes)
            writer.write(array)
        writer.close()
    run_code(LOAD, tmp_path / "model_state.pdparams")
