"""The upper half of a float32, which checkpoints are published in. NumPy has no such type: its bits travel as u2."""

import numpy as np

from ops.formats.base import Plain


class Bfloat16(Plain):
    storage, infinity = np.dtype("<u2"), 0x7F80
    limit, wider = "3.39e38", "float32"

    def pack(self, numbers):
        bits = numbers.view(np.uint32)
        rounded = bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))
        rounded >>= 16
        result = rounded.astype(np.uint16)
        nan = np.isnan(numbers)
        if nan.any():  # the carry could turn a NaN into an infinity
            result[nan] = 0x7FC0
        return result

    def unpack(self, array):
        wide = array.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)


FORMAT = Bfloat16()
