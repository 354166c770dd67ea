"""IEEE single precision: what the CPU computes in."""

import numpy as np

from ops.formats.base import Plain


class Float32(Plain):
    storage, infinity = np.dtype("<f4"), 0x7F800000


FORMAT = Float32()
