"""int8: whole numbers from -128 to 127 with a scale a row, symmetric (row_scaled.h has the places)."""

import numpy as np

from ops.formats.row_scaled import RowScaled


class Int8(RowScaled):
    description, code, offset, limit = "8 bits a weight, whole numbers with a scale a row (int8)", np.int8, 128, 127

    def nearest(self, numbers):
        return np.rint(numbers)

    def numbers(self, codes):
        return codes.astype(np.float32)


FORMAT = Int8()
