"""Writes a .pdiparams file directly, byte for byte as Paddle 2.6 saves it, without holding the weights in memory."""

import math

from ops.framework.programs import parameter_header, storage


def parameter_bytes(stored):
    """Size of the values of all parameters, {name: (shape, dtype)}."""
    return sum(math.prod(shape) * storage(dtype).itemsize for shape, dtype in stored.values())


def write_parameters(file, stored, values, advance=lambda count: None):
    """Write every parameter of `stored`, {name: (shape, dtype)}, to the open `file`.

    `values(name)` yields contiguous arrays that follow each other; `advance` hears of the bytes written.
    """
    for name in sorted(stored):
        shape, dtype = stored[name]
        file.write(parameter_header(shape, dtype))
        size = 0
        for array in values(name):
            file.write(memoryview(array).cast("B"))
            size += array.nbytes
            advance(array.nbytes)
        if size != parameter_bytes({name: stored[name]}):
            raise ValueError(f"{name} has {size} bytes, its shape {shape} means another number")
