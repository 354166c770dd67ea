"""Writes model_state.pdparams piece by piece: a pickle (protocol 4) of a dictionary of NumPy arrays.

pickle.dump would need every tensor in memory at once; the few instructions needed are written here instead.
"""

import pickle
import struct

from ops import formats

NUMPY_CODES = {**{name: format.storage.str[1:] for name, format in formats.plain().items()},  # Paddle keeps the same
               "int32": "i4", "float8_e4m3fn": "u1"}
RECONSTRUCT, ARRAY, FIRST_TYPE = 0, 1, 2  # slots of the pickle's memory


class Writer:
    """`begin` a tensor, `write` its bytes, begin the next one; `close` at the end."""

    def __init__(self, file):
        self._file, self._left, self._open = file, 0, False
        file.write(pickle.PROTO + b"\4" + pickle.EMPTY_DICT)
        file.write(_global("numpy.core.multiarray", "_reconstruct") + _keep(RECONSTRUCT) + _global("numpy", "ndarray")
                   + _keep(ARRAY))
        for slot, code in enumerate(NUMPY_CODES.values(), FIRST_TYPE):
            file.write(_global("numpy", "dtype") + _text(code) + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3
                       + pickle.REDUCE + pickle.MARK + _integer(3) + _text("<") + pickle.NONE * 3 + _integer(-1) * 2
                       + _integer(0) + pickle.TUPLE + pickle.BUILD + _keep(slot))
        file.write(pickle.POP * (len(NUMPY_CODES) + 2))

    def begin(self, name, shape, dtype, size):
        """Announce a tensor of `size` bytes."""
        self._finish()
        self._file.write(_text(name) + _recall(RECONSTRUCT) + _recall(ARRAY) + _integer(0) + pickle.TUPLE1
                         + pickle.SHORT_BINBYTES + b"\1b" + pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _integer(1)
                         + pickle.MARK + b"".join(map(_integer, shape)) + pickle.TUPLE
                         + _recall(FIRST_TYPE + list(NUMPY_CODES).index(dtype)) + pickle.NEWFALSE
                         + pickle.BINBYTES8 + struct.pack("<Q", size))
        self._left, self._open = size, True

    def write(self, array):
        """The next bytes of the tensor, from a contiguous array."""
        self._file.write(memoryview(array).cast("B"))
        self._left -= array.nbytes

    def close(self):
        """End the dictionary."""
        self._finish()
        self._file.write(pickle.STOP)

    def _finish(self):
        if self._left:
            raise ValueError(f"the tensor before lacks {self._left} bytes")
        if self._open:
            self._file.write(pickle.TUPLE + pickle.BUILD + pickle.SETITEM)
        self._open = False


def _global(module, name):
    return _text(module) + _text(name) + pickle.STACK_GLOBAL


def _text(value):
    raw = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def _integer(value):
    return pickle.BININT + struct.pack("<i", value)


def _keep(slot):
    return pickle.BINPUT + bytes([slot])


def _recall(slot):
    return pickle.BINGET + bytes([slot])
