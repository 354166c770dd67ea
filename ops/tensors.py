"""Tensors made without a kernel of Paddle's, whose GPU wheel has wrong ones for some cards."""

import numpy as np

from ops import formats
from ops.framework import import_paddle

paddle = import_paddle()


def to_device(array, device, dtype=None):
    """A numpy array as a tensor on `device` ("cpu" or "gpu"): made on the CPU, cast to `dtype` there, then copied."""
    tensor = paddle.to_tensor(array, place=paddle.CPUPlace())
    tensor = tensor if dtype is None else tensor.astype(dtype)
    return tensor if device == "cpu" else tensor._copy_to(paddle.CUDAPlace(0), True)


def packed_tensors(kept, matrix, device):
    """A numpy matrix in the packed format `kept`: its tensors on `device`, whatever Paddle's default device is."""
    default = paddle.get_device()
    paddle.set_device(device)  # where a packer takes memory
    packer = formats.get(kept).packer(device)
    try:
        return packer.pack(matrix)
    finally:
        packer.close()
        paddle.set_device(default)


def relative_error(ours, reference, where=slice(None)):
    """‖ours - reference‖ / ‖reference‖ of two tensors in float64, or of their rows or places `where`."""
    a, b = (tensor.cpu().astype("float32").numpy().astype(np.float64)[where] for tensor in (ours, reference))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
