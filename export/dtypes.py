"""The floating types of weights, which are the plain formats of ops/formats, and rounding from one to another."""

import numpy as np

from core.errors import UserError
from ops import formats

STORAGE = {name: format.storage for name, format in formats.plain().items()}  # in NumPy


def out_of_range(name, largest, target):
    """UserError that tensor `name` holds `largest`, which dtype name `target` cannot."""
    format = formats.get(target)
    return UserError(f"{name} holds {largest:.6g}, beyond the range of {target} ({format.limit}): "
                     f"use DTYPE={format.wider}")


def cast(array, source, target, name):
    """Convert `array` from dtype name `source` to `target`, to nearest even.

    Raises UserError naming the tensor `name` when a finite value becomes infinite.
    """
    if source == target:
        return array
    values = np.ascontiguousarray(formats.get(source).unpack(array))
    result = formats.get(target).pack(values)
    if result is values:
        return values
    infinite = formats.get(target).is_infinite(result)
    if infinite.any() and (infinite & np.isfinite(values)).any():
        largest = float(np.abs(values[np.isfinite(values)]).max())
        raise out_of_range(name, largest, target)
    return result
