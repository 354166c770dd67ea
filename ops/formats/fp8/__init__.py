"""fp8: floating numbers of 8 bits (e4m3, finite ones) with a scale a row (row_scaled.h has the places)."""

import numpy as np

from ops.formats.row_scaled import RowScaled
from ops.quantisation import e4m3


class Fp8(RowScaled):
    description, code, limit = "8 bits a weight, e4m3 with a scale a row (fp8)", np.uint8, 448

    def check(self, codes, zeros):
        super().check(codes, zeros)
        if (codes & 0x7F == 0x7F).any():
            raise ValueError("codes that are not a number")

    def nearest(self, numbers):
        """To nearest even; magnitudes beyond the largest become the largest."""
        bits = np.minimum(np.abs(numbers), np.float32(self.limit)).view(np.uint32)
        normal = (bits + (bits >> 20 & 1) + 0x7FFFF >> 20) - (120 << 3)  # the exponent of e4m3 is less by 120
        small = np.rint(bits.view(np.float32) * 512)                     # below 2^-6: multiples of 2^-9
        codes = np.where(bits < 121 << 23, small, normal).astype(np.uint8)
        return codes | np.signbit(numbers).astype(np.uint8) << 7

    def numbers(self, codes):
        return e4m3(codes)


FORMAT = Fp8()
