"""The weights of a graph, copied to the device by this program instead of by Paddle.

Paddle Inference takes 1.5 to 1.9 s/GB for it on a GPU (measured with 2.6.2). A graph whose weights are inputs, bound
once, runs as fast, and the copies from the mapped file go at the speed of the bus.
"""

import math
import mmap
import struct

import numpy as np

from core.errors import UserError

HEADER = struct.Struct("<IQIi")  # versions and ragged levels, all zero, and the length of the TensorDesc that follows
TYPES = {4: np.dtype("<f2"), 5: np.dtype("<f4"), 22: np.dtype("<u2")}  # framework.proto; Paddle takes bfloat16 as u2


def weights_as_inputs(program):
    """Rewrite a serialized program: its parameters become inputs. Returns it with their names, sorted."""
    from paddle.base.proto import framework_pb2

    made = framework_pb2.ProgramDesc.FromString(program)
    block = made.blocks[0]
    feeds = [op for op in block.ops if op.type == "feed"]
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


def load_parameters(path, names, device):
    """Tensors on `device` ("cpu" or "gpu") from a .pdiparams file that holds `names` in this order: {name: tensor}.

    Raises UserError for a file that ends early or holds anything else.
    """
    import paddle
    from paddle.base.proto import framework_pb2

    place = paddle.CUDAPlace(0) if device == "gpu" else paddle.CPUPlace()
    tensors, offset = {}, 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        try:
            for name in names:
                *zeros, length = HEADER.unpack_from(mapped, offset)
                offset += HEADER.size
                if any(zeros) or not 0 < length <= len(mapped) - offset:
                    raise ValueError(f"no tensor at byte {offset}")
                described = framework_pb2.VarType.TensorDesc.FromString(mapped[offset:offset + length])
                offset += length
                kind, count = TYPES[described.data_type], math.prod(described.dims)
                values = np.frombuffer(mapped, kind, count, offset).reshape(described.dims)
                tensors[name] = paddle.to_tensor(values, place=place)
                offset += values.nbytes
                del values  # it keeps the file mapped
            if offset != len(mapped):
                raise ValueError(f"{len(mapped) - offset} bytes too many")
        except Exception as e:  # struct, protobuf and numpy each have their own
            raise UserError(f"{path} is no file of this graph's parameters ({e}): run `make export` again") from None
    return tensors
