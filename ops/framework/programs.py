"""Static programs and files of parameters (.pdmodel and .pdiparams): built, written and read.

3.3.1 builds programs of another kind (PIR, which jit.save writes as .json): no variable can be created in their blocks,
and no protobuf message describes them. With FLAGS_enable_pir_api=0 it builds these, but plain layers do not take their
variables ("matmul(): argument must be Value, but got Variable"): so fused graphs alone.
"""

import contextlib
import math
import struct

import numpy as np

from ops import formats
from ops.framework import import_paddle

HEADER = struct.Struct("<IQIi")  # versions and ragged levels, all zero, and the length of the TensorDesc that follows
TYPES = {"float16": 4, "float32": 5, "bfloat16": 22}  # VarType.Type


@contextlib.contextmanager
def new_program():
    """A new static program, to which operators are added meanwhile."""
    paddle = import_paddle()
    was_dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()), paddle.utils.unique_name.guard():
            yield program
    finally:
        if was_dynamic:
            paddle.disable_static()


def graph_input(name, shape, dtype):
    """An input of the program that is being built; a size of -1 may differ from run to run."""
    return import_paddle().static.data(name, shape, dtype)


def parameter(program, name, shape, dtype):
    """A parameter of the program, without an operator that would give it a first value."""
    return program.global_block().create_var(name=name, shape=shape, dtype=dtype, persistable=True, stop_gradient=True)


def serialized(program, inputs, output):
    """The bytes of a .pdmodel file: the program with these inputs, by name, and one output, a variable.

    paddle.static.save_inference_model prunes what no output needs, and with it the updates of the state: so the feed
    and fetch operators are added here.
    """
    io = import_paddle().static.io
    io.prepend_feed_ops(program, inputs)
    io.append_fetch_ops(program, [output.name])
    program.desc._set_version(0)
    return program.desc.serialize_to_string()


def _messages():
    """The protobuf messages of programs."""
    return import_paddle().base.proto.framework_pb2


def parameters_as_inputs(program, attributes=(), input_name="", added=()):
    """Rewrite a serialized program: its parameters become inputs. Returns it with their names, sorted.

    attributes: (name, value) of operators that have one of the name; added: (parameter, names) of further parameters,
    which go to the input `input_name` of the operators that take the parameter.
    2.6.2's own loading of parameters is slow on a GPU, see infer/parameters.py.
    """
    messages = _messages()
    message = messages.ProgramDesc.FromString(program)
    block = message.blocks[0]
    feeds = [op for op in block.ops if op.type == "feed"]
    for op in block.ops:
        for attribute in op.attrs:
            attribute.s = dict(attributes).get(attribute.name, attribute.s)
        taken = {name for variable in op.inputs for name in variable.arguments}
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
    return message.SerializeToString(), sorted(parameters)


def parameter_header(shape, dtype):
    """What stands before a parameter's values in a .pdiparams file, in which parameters are sorted by name.

    Paddle's own writing takes 7 to 10 s/GB and three times the weights in memory.
    """
    described = _messages().VarType.TensorDesc(data_type=TYPES[dtype], dims=shape).SerializeToString()
    return HEADER.pack(0, 0, 0, len(described)) + described


def read_parameter(content, offset):
    """(numpy array over `content`, offset of what follows) of the parameter at a byte of a .pdiparams file.

    bfloat16 comes as uint16. Raises whatever struct, protobuf and numpy do where there is none.
    """
    *zeros, length = HEADER.unpack_from(content, offset)
    begin = offset + HEADER.size
    if any(zeros) or not 0 < length <= len(content) - begin:
        raise ValueError(f"no tensor at byte {begin}")
    described = _messages().VarType.TensorDesc.FromString(content[begin:begin + length])
    (dtype,) = (name for name, code in TYPES.items() if code == described.data_type)
    values = np.frombuffer(content, formats.get(dtype).storage, math.prod(described.dims), begin + length)
    return values.reshape(described.dims), begin + length + values.nbytes
