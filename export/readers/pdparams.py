"""Paddle's model_state.pdparams: a pickled dictionary of NumPy arrays (protocol 3 or 4)."""

from core.errors import UserError
from export.readers import tensor_pickle
from export.stored import Source, StoredTensor, check_extents

NAME_TABLE = "StructuredToParameterName@@"
TYPES = {"f4": "float32", "f2": "float16", "u2": "bfloat16", "f8": "float64", "i8": "int64", "i4": "int32",
         "i2": "int16", "i1": "int8", "u1": "uint8", "b1": "bool"}  # Paddle keeps bfloat16 bits as uint16


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, code, *_):
        self.code, self.little_endian = code, True

    def set_state(self, state):
        self.little_endian = state[1] in ("<", "|", "=")


class _Array:
    """Stands for numpy.ndarray."""

    def __init__(self, *_):
        self.shape = None

    def set_state(self, state):
        _, self.shape, self.type, self.columns_first, self.data = state


def _tuple(value):
    if not isinstance(value, tuple):  # a copy of a list made again and again could fill the memory
        raise TypeError
    return value


NAMES = {("builtins", "tuple"): _tuple, ("__builtin__", "tuple"): _tuple,
         ("collections", "OrderedDict"): tensor_pickle.StateDict,
         ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Type,
         ("numpy.core.multiarray", "_reconstruct"): _Array, ("numpy._core.multiarray", "_reconstruct"): _Array}


def read(path):
    """Tensors of one file: name -> StoredTensor. Raises UserError for anything but tensors."""
    source = Source(path)
    saved = tensor_pickle.load(source, NAMES)
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds no dictionary of tensors")
    return check_extents(source, {name: _tensor(name, value, source) for name, value in saved.items()
                                  if name != NAME_TABLE})


def _tensor(name, value, source):
    if isinstance(value, tuple) and len(value) == 2:  # paddle.save writes (parameter name, array)
        value = value[1]
    if (not isinstance(value, _Array) or not isinstance(value.shape, tuple)
            or not isinstance(value.type, _Type) or not isinstance(value.data, tensor_pickle.Span)):
        raise UserError(f"{source.path}: entry {name[:200]!r} is not a tensor")
    if not value.type.little_endian:
        raise UserError(f"{source.path}: tensor {name[:200]!r} is stored big-endian")
    code = value.type.code
    kind = TYPES.get(code, code) if isinstance(code, str) else "?"
    return StoredTensor.checked(name, source, value.data.offset, value.shape, kind, value.data.length,
                                columns_first=value.columns_first is True)
