"""The weights of a graph, copied to the device by this program instead of by Paddle.

Paddle Inference takes 1.5 to 1.9 s/GB for it on a GPU (measured with 2.6.2). A graph whose weights are inputs, bound
once, runs as fast, and the copies from the mapped file go at the speed of the bus.
"""

import contextlib
import mmap

from core.errors import UserError
from ops.framework.programs import parameters_as_inputs, read_parameter
from ops.framework.tensors import upload
from ops.weights import EXTRA, FORMAT, MATRICES, tensor_names


def weights_as_inputs(program, format):
    """Rewrite a serialized program: its parameters become inputs, with MATRICES in `format`, a Format. Returns it with
    the names of these inputs, sorted."""
    added = [(matrix, tensor_names(matrix, format)[1:]) for matrix in MATRICES if format.extra]
    return parameters_as_inputs(program, [(FORMAT, format.name)], EXTRA, added)


def load_packed(path, names, placement, format):
    """What `load_parameters` gives, with MATRICES in `format`, a Packed one; None if one of them cannot be."""
    with contextlib.closing(format.packer(placement)) as packer:
        return load_parameters(path, names, placement, format, packer)


def load_parameters(path, names, placement, format=None, packer=None):
    """Tensors on a device from a .pdiparams file that holds `names` in this order: {name: tensor}.

    packer: makes the tensors of MATRICES, in `format`, from numpy arrays; as soon as it returns None for one, so does
    this function. Raises UserError for a file that ends early or holds anything else.
    """
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last array over it
    tensors = {}
    for name, values in _stored(path, mapped, names):
        if packer is not None and name in MATRICES:
            packed = packer.pack(values)
            if packed is None:
                return None
            tensors.update(zip(tensor_names(name, format), packed, strict=True))
        else:
            tensors[name] = upload(values, placement)
    return tensors


def _stored(path, mapped, names):
    """Yield (name, numpy array) of each parameter in the mapped file."""
    offset = 0
    try:
        for name in names:
            values, offset = read_parameter(mapped, offset)
            yield name, values
        if offset != len(mapped):
            raise ValueError(f"{len(mapped) - offset} bytes too many")
    except Exception as e:  # struct, protobuf and numpy each have their own
        raise UserError(f"{path} is no file of this graph's parameters ({e}): run `make export` again") from None
