"""The weights of a graph, copied to the device by this program instead of by Paddle.

Paddle Inference takes 1.5 to 1.9 s/GB for it on a GPU (measured with 2.6.2). A graph whose weights are inputs, bound
once, runs as fast, and the copies from the mapped file go at the speed of the bus.
"""

import math
import mmap
import struct

import numpy as np

from core.errors import UserError
from ops import formats
from ops.framework import import_paddle
from ops.weights import EXTRA, FORMAT, MATRICES, tensor_names

HEADER = struct.Struct("<IQIi")  # versions and ragged levels, all zero, and the length of the TensorDesc that follows
TYPES = {kept.proto: kept.storage for kept in formats.plain().values()}


def weights_as_inputs(program, kept):
    """Rewrite a serialized program: its parameters become inputs, with MATRICES in the Format `kept`. Returns it with
    the names of these inputs, sorted."""
    from paddle.base.proto import framework_pb2

    made = framework_pb2.ProgramDesc.FromString(program)
    block = made.blocks[0]
    feeds = [op for op in block.ops if op.type == "feed"]
    for op in block.ops:
        _keep_matrices(block, op, kept)
    parameters = {variable.name: variable for variable in block.vars
                  if variable.persistable and variable.name not in ("feed", "fetch")}
    operators = list(block.ops)
    for column, name in enumerate(sorted(parameters), len(feeds)):
        parameters[name].persistable = False
        feed = framework_pb2.OpDesc.FromString(feeds[0].SerializeToString())
        feed.outputs[0].arguments[:] = [name]
        next(attribute for attribute in feed.attrs if attribute.name == "col").i = column
        operators.insert(0, feed)
    del block.ops[:]
    block.ops.extend(operators)
    return made.SerializeToString(), sorted(parameters)


def _keep_matrices(block, op, kept):
    """Tell an operator in the Format `kept` what its matrices are in, and give it the variables that this adds."""
    taken = {name for variable in op.inputs for name in variable.arguments}
    extra = [name for matrix in MATRICES if matrix in taken for name in tensor_names(matrix, kept)[1:]]
    for attribute in op.attrs:
        if attribute.name == FORMAT:
            attribute.s = kept.name
    for variable in op.inputs:
        if variable.parameter == EXTRA:  # Paddle leaves inputs that are absent empty
            variable.arguments[:] = extra
    for name in extra:
        variable = block.vars.add()
        variable.CopyFrom(next(v for v in block.vars if v.name == name.rpartition(".")[0]))
        variable.name = name


def load_packed(path, names, device, kept):
    """What `load_parameters` gives, with MATRICES in the Packed format `kept`; None if one of them cannot be."""
    packer = kept.packer(device)
    try:
        return load_parameters(path, names, device, kept, packer)
    finally:
        packer.close()


def load_parameters(path, names, device, kept=None, packer=None):
    """Tensors on `device` ("cpu" or "gpu") from a .pdiparams file that holds `names` in this order: {name: tensor}.

    packer: makes the tensors of MATRICES, in the format `kept`, from numpy arrays; as soon as it returns None for one,
    so does this function. Raises UserError for a file that ends early or holds anything else.
    """
    paddle = import_paddle()
    place = paddle.CUDAPlace(0) if device == "gpu" else paddle.CPUPlace()
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last array over it
    tensors = {}
    for name, values in _stored(path, mapped, names):
        if packer is not None and name in MATRICES:
            packed = packer.pack(values)
            if packed is None:
                return None
            tensors.update(zip(tensor_names(name, kept), packed, strict=True))
        else:
            tensors[name] = paddle.to_tensor(values, place=place)
    return tensors


def _stored(path, mapped, names):
    """Yield (name, numpy array) of each parameter in the mapped file."""
    from paddle.base.proto import framework_pb2

    offset = 0
    try:
        for name in names:
            *zeros, length = HEADER.unpack_from(mapped, offset)
            offset += HEADER.size
            if any(zeros) or not 0 < length <= len(mapped) - offset:
                raise ValueError(f"no tensor at byte {offset}")
            described = framework_pb2.VarType.TensorDesc.FromString(mapped[offset:offset + length])
            offset += length
            values = np.frombuffer(mapped, TYPES[described.data_type], math.prod(described.dims), offset)
            offset += values.nbytes
            yield name, values.reshape(described.dims)
        if offset != len(mapped):
            raise ValueError(f"{len(mapped) - offset} bytes too many")
    except Exception as e:  # struct, protobuf and numpy each have their own
        raise UserError(f"{path} is no file of this graph's parameters ({e}): run `make export` again") from None
