"""What Paddle 2.6 does in its own way: programs are protobuf messages (.pdmodel)."""

import contextlib

from ops.framework import import_paddle
from ops.framework.operators import OPTIONAL

FILE_NAME = "model.pdmodel"


def parameter(program, name, shape, dtype):
    """See programs.parameter; no operator gives it a first value."""
    return program.global_block().create_var(name=name, shape=shape, dtype=dtype, persistable=True, stop_gradient=True)


def serialized(program, inputs, output):
    """See programs.serialized."""
    io = import_paddle().static.io
    io.prepend_feed_ops(program, inputs)
    io.append_fetch_ops(program, [output.name])
    program.desc._set_version(0)
    return program.desc.serialize_to_string()


def _messages():
    """The protobuf messages of programs."""
    return import_paddle().base.proto.framework_pb2


def parameters_as_inputs(program, attributes=(), input_name="", added=()):
    """See programs.parameters_as_inputs."""
    messages = _messages()
    made = messages.ProgramDesc.FromString(program)
    block = made.blocks[0]
    feeds = [op for op in block.ops if op.type == "feed"]
    for op in block.ops:
        taken = {name for variable in op.inputs for name in variable.arguments}
        wanted = {name: value for parameter, name, value in attributes if parameter in taken}
        for attribute in op.attrs:
            attribute.s = wanted.get(attribute.name, attribute.s)
        for variable in op.inputs:
            if variable.parameter == input_name:  # 2.6.2 leaves inputs that are absent empty
                variable.arguments[:] = [name for parameter, names in added if parameter in taken for name in names]
    for parameter, names in added:
        (like,) = (variable for variable in block.vars if variable.name == parameter)
        for name in names:
            block.vars.add().CopyFrom(like)
            block.vars[-1].name = name
    parameters = {variable.name: variable for variable in block.vars
                  if variable.persistable and variable.name not in ("feed", "fetch")}
    operators = list(block.ops)
    for column, name in enumerate(sorted(parameters), len(feeds)):
        parameters[name].persistable = False
        feed = messages.OpDesc.FromString(feeds[0].SerializeToString())
        feed.outputs[0].arguments[:] = [name]
        next(attribute for attribute in feed.attrs if attribute.name == "col").i = column
        operators.insert(0, feed)
    del block.ops[:]
    block.ops.extend(operators)
    return made.SerializeToString(), sorted(parameters)


def append(operator, inputs, attributes, outputs, state):
    """Add an operator to the program that is being built, see operators.call."""
    helper = import_paddle().base.layer_helper.LayerHelper(operator)
    made = {name: helper.create_variable_for_type_inference(dtype) for name, dtype in outputs.items()}
    inputs = {name: tensor for name, tensor in inputs.items() if tensor is not None}
    written = {_written_by(name): inputs[name] for name in state if name in inputs}
    helper.append_op(type=operator, inputs=inputs, outputs={**made, **written}, attrs=attributes)
    return made


def _written_by(name):
    """The output that writes an input in place."""
    return f"{name.removesuffix(OPTIONAL)}_out{OPTIONAL if name.endswith(OPTIONAL) else ''}"


def overwrite_rows(state, index, rows):
    """See operators.overwrite_rows, in a program.

    An operator whose output is its input works in place; Paddle's functions give every output a variable of its own.
    """
    paddle = import_paddle()
    block = paddle.static.default_main_program().current_block()

    def append(op, inputs, attributes):
        outputs = {"Out": state}
        if op == "reshape2":
            outputs["XShape"] = block.create_var(name=paddle.utils.unique_name.generate("xshape"), dtype=state.dtype)
        block.append_op(type=op, inputs=inputs, outputs=outputs, attrs=attributes)

    declared, shape = list(state.shape), paddle.shape(state)
    append("reshape2", {"X": state}, {"shape": [-1, rows.shape[-1]]})
    append("scatter", {"X": state, "Ids": index, "Updates": rows}, {"overwrite": True})
    append("reshape2", {"X": state, "Shape": shape}, {"shape": [-1]})
    state.desc.set_shape(declared)


def sizes(tensor):
    """See tensors.sizes."""
    return import_paddle().shape(tensor)


@contextlib.contextmanager
def config(model, parameters):
    """The predictor's Config of a program, bytes or a file; valid until a predictor is made from it."""
    inference = import_paddle().inference
    if not isinstance(model, bytes):
        yield inference.Config(str(model), str(parameters))
        return
    made = inference.Config()
    made.set_model_buffer(model, len(model), b"", 0)
    yield made


def reuse_memory(config):
    """Let tensors share memory that are not needed at the same time."""
    config.enable_memory_optim(True)
