"""IEEE single precision: what the CPU computes in."""

import numpy as np

from ops.formats.base import Plain


class Float32(Plain):
    storage, infinity, proto = np.dtype("<f4"), 0x7F800000, 5


FORMAT = Float32()
