"""Static programs and files of parameters (.pdiparams): built, written and read."""

import contextlib
import math
import struct

import numpy as np

from core.errors import UserError
from ops import formats
from ops.framework import import_paddle, own

HEADER = struct.Struct("<IQIi")  # versions and ragged levels, all zero, and the length of the TensorDesc that follows
MAX_DESCRIPTION_BYTES, MAX_DIMENSIONS = 1 << 10, 8   # of one parameter; Paddle's are some 20 bytes
TYPES = {"float16": 4, "float32": 5, "uint8": 20, "int8": 21, "bfloat16": 22}  # VarType.Type


@contextlib.contextmanager
def new_program():
    """A new static program, to which operators are added meanwhile.

    Raises UserError for Paddle's own in a type that the wheel has no kernel for, which Paddle 3 does not add.
    """
    paddle = import_paddle()
    was_dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()), paddle.utils.unique_name.guard():
            yield program
    except TypeError as error:
        if "Check data type error" not in str(error):
            raise
        raise UserError("this wheel of Paddle has no kernels of its own for the type, without which Paddle 3 exports "
                        "none of its operators: use IMPL=fused, DTYPE=float32, or Paddle's GPU wheel") from None
    finally:
        if was_dynamic:
            paddle.disable_static()


def graph_input(name, shape, dtype):
    """An input of the program that is being built; a size of -1 may differ from run to run."""
    return import_paddle().static.data(name, shape, dtype)


def file_name():
    """What the file of a program is called, which says of what kind it is."""
    return own().FILE_NAME


def parameter(program, name, shape, dtype):
    """A parameter of the program, whose value is in a file of parameters."""
    return own().parameter(program, name, shape, dtype)


def serialized(program, inputs, output):
    """The bytes of a program's file: the program with these inputs, by name, and one output, a variable.

    Paddle's save_inference_model prunes what no output needs, and with it the updates of the state.
    """
    return own().serialized(program, inputs, output)


def parameters_as_inputs(program, attributes=(), input_name="", added=()):
    """Rewrite a serialized program: its parameters become inputs. Returns it with their names, sorted.

    attributes: (parameter, name, value) of the operators that take the parameter; added: (parameter, names) of further
    parameters, which go to the input `input_name` of these operators.
    2.6.2's own loading of parameters is slow on a GPU, see infer/parameters.py.
    """
    return own().parameters_as_inputs(program, attributes, input_name, added)


def storage(dtype):
    """How NumPy keeps a type of parameters, by its name in TYPES."""
    plain = formats.plain().get(dtype)
    return plain.storage if plain else np.dtype(dtype)


def parameter_header(shape, dtype):
    """What stands before a parameter's values in a .pdiparams file, in which parameters are sorted by name.

    Paddle's own writing takes 7 to 10 s/GB and three times the weights in memory.
    """
    described = _described()(data_type=TYPES[dtype], dims=shape).SerializeToString()
    return HEADER.pack(0, 0, 0, len(described)) + described


def read_parameter(content, offset, shape, dtype):
    """(numpy array over `content`, offset of what follows) of the parameter at a byte of a .pdiparams file, which must
    have this shape and type; no more than its header is looked at before that is known.

    bfloat16 comes as uint16. Raises ValueError where something else is there, and what struct and protobuf do.
    """
    *zeros, length = HEADER.unpack_from(content, offset)
    begin = offset + HEADER.size
    if any(zeros) or not 0 < length <= min(MAX_DESCRIPTION_BYTES, len(content) - begin):
        raise ValueError(f"no tensor at byte {begin}")
    described = _described().FromString(content[begin:begin + length])
    kinds = {code: name for name, code in TYPES.items()}
    if list(described.dims) != list(shape) or kinds.get(described.data_type) != dtype:
        kind = kinds.get(described.data_type, f"type {described.data_type}")
        raise ValueError(f"{kind} {list(described.dims)[:MAX_DIMENSIONS]} instead of {dtype} {list(shape)}")
    size = math.prod(shape) * storage(dtype).itemsize
    if size > len(content) - begin - length:
        raise ValueError(f"truncated: {len(content) - begin - length} bytes of {size} are there")
    values = np.frombuffer(content, storage(dtype), math.prod(shape), begin + length)
    return values.reshape(shape), begin + length + size


def _described():
    """The protobuf message that stands before a parameter's values."""
    return import_paddle().base.proto.framework_pb2.VarType.TensorDesc
