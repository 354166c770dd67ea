"""Writes a .pdiparams file directly, byte for byte as Paddle 2.6 saves it, without holding the weights in memory.

Per parameter, sorted by name: the tensor's version, its number of ragged levels and the format's version, all zero;
the length of a TensorDesc message; the message; the values.
"""

import math
import struct

from export.dtypes import STORAGE
from ops import formats


def parameter_bytes(shapes, dtype):
    """Size of the values of all parameters."""
    return sum(math.prod(shape) for shape in shapes.values()) * STORAGE[dtype].itemsize


def write_parameters(file, shapes, dtype, values, advance=lambda count: None):
    """Write every parameter of `shapes` (name -> shape) to the open `file`.

    `values(name)` yields contiguous arrays that follow each other; `advance` hears of the bytes written.
    """
    for name in sorted(shapes):
        file.write(_header(shapes[name], dtype))
        size = 0
        for array in values(name):
            file.write(memoryview(array).cast("B"))
            size += array.nbytes
            advance(array.nbytes)
        if size != math.prod(shapes[name]) * STORAGE[dtype].itemsize:
            raise ValueError(f"{name} has {size} bytes, its shape {shapes[name]} means another number")


def _header(shape, dtype):
    description = b"\x08" + _varint(formats.get(dtype).proto) + b"".join(b"\x10" + _varint(n) for n in shape)
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description


def _varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded + bytes([value]))
