"""The three floating types of weights. NumPy has no bfloat16, so its bits travel as uint16."""

import numpy as np

from core.errors import UserError

STORAGE = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}


def to_float32(array, dtype):
    """Values of `array`, stored as `dtype`, as float32 (no copy when they are float32 already)."""
    if dtype == "bfloat16":
        wide = array.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return array.astype(np.float32, copy=False)


def _round_to_bfloat16(values):
    bits = values.view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))
    rounded >>= 16
    result = rounded.astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():  # the carry could turn a NaN into an infinity
        result[nan] = 0x7FC0
    return result


def out_of_range(name, largest, target):
    """UserError that tensor `name` holds `largest`, which dtype name `target` cannot."""
    limit, remedy = ("65504", "bfloat16") if target == "float16" else ("3.39e38", "float32")
    return UserError(f"{name} holds {largest:.6g}, beyond the range of {target} ({limit}): use DTYPE={remedy}")


def cast(array, source, target, name):
    """Convert `array` from dtype name `source` to `target`, to nearest even.

    Raises UserError naming the tensor `name` when a finite value becomes infinite.
    """
    if source == target:
        return array
    values = np.ascontiguousarray(to_float32(array, source))
    if target == "float32":
        return values
    with np.errstate(over="ignore"):
        result = values.astype(np.float16) if target == "float16" else _round_to_bfloat16(values)
    infinite = np.isinf(result) if target == "float16" else (result & 0x7FFF) == 0x7F80
    if infinite.any() and (infinite & np.isfinite(values)).any():
        largest = float(np.abs(values[np.isfinite(values)]).max())
        raise out_of_range(name, largest, target)
    return result
