"""The weights of a graph, copied to the device by this program instead of by Paddle.

Paddle Inference takes 1.5 to 1.9 s/GB for it on a GPU (measured with 2.6.2). A graph whose weights are inputs, bound
once, runs as fast, and the copies from the mapped file go at the speed of the bus.
"""

import contextlib
import mmap

from core.errors import UserError
from infer.formats import numbers, packed
from ops.formats.base import Codes, Plain
from ops.framework.programs import parameters_as_inputs, read_parameter
from ops.framework.tensors import upload
from ops.weights import CODES, EXTRA, FORMAT, tensor_names


def weights_as_inputs(program, kept):
    """Rewrite a serialized program: its parameters become inputs, with matrices in their Format of `kept`, {matrix:
    Format}. Returns it with the names of these inputs, sorted."""
    attributes = [(matrix, FORMAT, format.name) for matrix, format in kept.items()]
    added = [(matrix, tensor_names(matrix, format)[1:]) for matrix, format in kept.items() if format.extra]
    return parameters_as_inputs(program, attributes, EXTRA, added)


def read_parameters(path, parameters):
    """{name: numpy array over the mapped file} of a .pdiparams file of `parameters`, {name: (shape, dtype's name)}.

    Raises UserError for a file that ends early or holds anything else. Headers alone are read.
    """
    made, offset, name = {}, 0, ""
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last array over it
        for name in sorted(parameters):
            made[name], offset = read_parameter(mapped, offset, *parameters[name])
        if offset != len(mapped):
            raise ValueError(f"{len(mapped) - offset} bytes too many")
    except Exception as e:  # struct, protobuf and mmap each have their own
        raise UserError(f"{path} is no file of this graph's parameters ({name}: {e}): delete {path.parent}, then run "
                        "`make export`") from None
    return made


def load_parameters(path, parameters, placement, choices=()):
    """(tensors on a device, kept) of a .pdiparams file, as `read_parameters` takes it: {name: tensor}, {matrix: the
    Format that it is kept in}.

    choices: the infer.formats.Choices of matrices, all others stay as they are.
    Raises UserError for another file, before memory is spent, and for a Choice that no format is there for.
    """
    stored, tensors, kept = with_codes(read_parameters(path, parameters)), {}, {}
    for choice in choices:
        for format in choice.candidates:
            made = _matrices(format, {matrix: stored[matrix] for matrix in choice.matrices}, placement)
            if made is not None:
                tensors |= made
                kept |= dict.fromkeys(choice.matrices, format)
                break
        else:
            raise UserError(choice.refusal)
    return tensors | {name: upload(values, placement) for name, values in stored.items() if name not in kept}, kept


def with_codes(stored):
    """Arrays by name, with those of each matrix that is kept as codes as its Codes."""
    made, codes = {}, {}
    for name, values in stored.items():
        matrix, _, kind = name.rpartition(".")
        if kind in CODES:
            codes.setdefault(matrix, {})[kind] = values
        else:
            made[name] = values
    return made | {matrix: Codes(**arrays) for matrix, arrays in codes.items()}


def _matrices(format, matrices, placement):
    """{name: tensor} of numpy arrays or Codes by name, in a Format; None as soon as it cannot hold one."""
    if isinstance(format, Plain):
        return {name: upload(numbers(format, values), placement) for name, values in matrices.items()}
    tensors = {}
    with contextlib.closing(format.packer(placement)) as packer:
        for name, values in matrices.items():
            made = packed(format, values, packer)
            if made is None:
                return None
            tensors.update(zip(tensor_names(name, format), made, strict=True))
    return tensors
