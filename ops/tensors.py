"""Tensors made without a kernel of Paddle's, whose GPU wheel has wrong ones for some cards."""

import numpy as np
import paddle


def to_device(array, device, dtype=None):
    """A numpy array as a tensor on `device` ("cpu" or "gpu"): made on the CPU, cast to `dtype` there, then copied."""
    tensor = paddle.to_tensor(array, place=paddle.CPUPlace())
    tensor = tensor if dtype is None else tensor.astype(dtype)
    return tensor if device == "cpu" else tensor._copy_to(paddle.CUDAPlace(0), True)


def relative_error(ours, reference, where=slice(None)):
    """‖ours - reference‖ / ‖reference‖ of two tensors in float64, or of their rows or places `where`."""
    a, b = (tensor.cpu().astype("float32").numpy().astype(np.float64)[where] for tensor in (ours, reference))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
