"""IEEE half precision: what GPUs compute in, also for weights that were bfloat16 where their range allows."""

import numpy as np

from ops.formats.base import Plain


class Float16(Plain):
    storage, infinity = np.dtype("<f2"), 0x7C00
    limit, wider = "65504", "bfloat16"


FORMAT = Float16()
