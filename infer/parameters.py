"""The weights of a graph, copied to the device by this program instead of by Paddle.

Paddle Inference takes 1.5 to 1.9 s/GB for it on a GPU (measured with 2.6.2). A graph whose weights are inputs, bound
once, runs as fast, and the copies from the mapped file go at the speed of the bus.
"""

import mmap

from core.errors import UserError
from ops.framework.programs import read_parameter
from ops.framework.tensors import upload
from ops.weights import MATRICES


def load_packed(path, names, placement, packer):
    """({name: tensor}, whether packed) as `load_parameters` gives them: with MATRICES packed by `packer`, an
    ops.e5m7.Packer that is closed then, if it packs all of them, else as they are in the file."""
    packed = load_parameters(path, names, placement, packer.pack)
    packer.close()
    return (load_parameters(path, names, placement), False) if packed is None else (packed, True)


def load_parameters(path, names, placement, pack=None):
    """Tensors on a device from a .pdiparams file that holds `names` in this order: {name: tensor}.

    pack: makes the tensors of MATRICES from numpy arrays; as soon as it returns None for one, so does this function.
    Raises UserError for a file that ends early or holds anything else.
    """
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last array over it
    tensors = {}
    for name, values in _stored(path, mapped, names):
        if pack is not None and name in MATRICES:
            tensors[name] = pack(values)
            if tensors[name] is None:
                return None
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
