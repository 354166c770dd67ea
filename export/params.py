"""Writes a .pdiparams file directly, byte for byte as Paddle 2.6 saves it, without holding the weights in memory."""

import math

from export.dtypes import STORAGE
from ops.framework.programs import parameter_header


def parameter_bytes(shapes, dtype):
    """Size of the values of all parameters."""
    return sum(math.prod(shape) for shape in shapes.values()) * STORAGE[dtype].itemsize


def write_parameters(file, shapes, dtype, values, advance=lambda count: None):
    """Write every parameter of `shapes` (name -> shape) to the open `file`.

    `values(name)` yields contiguous arrays that follow each other; `advance` hears of the bytes written.
    """
    for name in sorted(shapes):
        file.write(parameter_header(shapes[name], dtype))
        size = 0
        for array in values(name):
            file.write(memoryview(array).cast("B"))
            size += array.nbytes
            advance(array.nbytes)
        if size != math.prod(shapes[name]) * STORAGE[dtype].itemsize:
            raise ValueError(f"{name} has {size} bytes, its shape {shapes[name]} means another number")
