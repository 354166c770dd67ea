"""What Paddle 3 does in its own way: programs are of its intermediate representation PIR and written as .json.

FLAGS_enable_pir_api=0 would give 2.6's programs back, but for plain layers, which no longer take their variables
("matmul(): argument must be Value, but got Variable").
"""

import contextlib
import tempfile
from pathlib import Path

from ops.framework import import_paddle
from ops.framework.programs import new_program

FILE_NAME = "model.json"


def parameter(program, name, shape, dtype):
    """See programs.parameter; its first value is made by another program, which is not kept."""
    paddle = import_paddle()
    return paddle.pir.core.create_parameter(dtype, list(shape), name, initializer=paddle.nn.initializer.Constant(0.0))


def serialized(program, inputs, output):
    """See programs.serialized; the inputs are in the program by themselves."""
    import_paddle()._pir_ops.fetch(output, "output", 0).persistable = True
    return _written(program)


def parameters_as_inputs(program, attributes=(), input_name="", added=()):
    """See programs.parameters_as_inputs; the operators must be registered."""
    paddle = import_paddle()
    with new_program() as made, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_bytes(program)
        paddle.base.core.deserialize_pir_program(str(path), made)
        block, inputs = made.global_block(), {}
        for op in [op for op in block.ops if op.name() == "builtin.parameter"]:
            name, value = op.str_attr("parameter_name"), op.result(0)
            inputs[name] = paddle.static.data(name, value.shape, value.dtype)
            value.replace_all_uses_with(inputs[name])
            block.remove_op(op)
        further = {}  # operator -> what it takes besides
        for parameter, names in added:
            like = inputs[parameter]
            for name in names:
                inputs[name] = paddle.static.data(name, like.shape, like.dtype)
            for op in like.all_used_ops():
                further.setdefault(op.id(), []).extend(inputs[name] for name in names)
        for parameter, name, value in attributes:
            for op in inputs[parameter].all_used_ops():
                op.set_str_attr(name, value)
        for op in block.ops:
            if op.id() in further:
                paddle.base.core.pir.set_insertion_point(op)
                combined = paddle._pir_ops.builtin_combine(further[op.id()])
                op.operand(op.get_input_names().index(input_name)).set_source(combined)
        return _written(made), sorted(inputs)


def _written(program):
    """The bytes of a program's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        # trainable: without these attributes of the parameters the predictor crashes
        import_paddle().base.core.serialize_pir_program(program, str(path), trainable=True)
        return path.read_bytes()


def append(operator, inputs, attributes, outputs, state):
    """Add an operator to the program that is being built, see operators.call."""
    results = import_paddle()._C_ops._run_custom_op(operator, *inputs.values(), *attributes.values())
    return dict(zip(outputs, results))


def overwrite_rows(state, index, rows):
    """See operators.overwrite_rows, in a program."""
    paddle = import_paddle()
    flat = paddle._C_ops.reshape_(state, [-1, rows.shape[-1]])
    paddle._C_ops.reshape_(paddle._C_ops.scatter_(flat, index, rows, True), paddle.shape(state))


def sizes(tensor):
    """See tensors.sizes."""
    return import_paddle().shape(tensor).astype("int32")


@contextlib.contextmanager
def config(model, parameters):
    """The predictor's Config of a program, bytes or a file; valid until a predictor is made from it.

    It reads a .json file alone: set_model_buffer takes every buffer for a program of 2.6 and crashes.
    """
    inference = import_paddle().inference
    if not isinstance(model, bytes):
        yield inference.Config(str(model), str(parameters))
        return
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(model)
        file.flush()
        yield inference.Config(file.name, "")


def reuse_memory(config):
    """Nothing: enable_memory_optim fails on a .json file, where the executor frees each tensor after its last use."""
