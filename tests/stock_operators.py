"""Runs the operators of paddlenlp_ops and fused_ln on a device where Paddle's own kernels may not exist: by copies."""

import importlib

import numpy as np
from stock_cases import rounded

from core.placement import Placement
from ops.framework import import_paddle, tensors

paddle = import_paddle()

STEPS = {"float16": (1e-3, 1e-6), "bfloat16": (8e-3, 1e-6)}  # one step of the type, relative and absolute


def function(name):
    """The operator's Python function."""
    package = "fused_ln" if name.startswith("fused_") and name.endswith("_norm") else "paddlenlp_ops"
    return getattr(importlib.import_module(package), name)


def to_device(array, dtype, device):
    """A tensor of `dtype` (None: the array's own) on "cpu" or "gpu"."""
    if dtype == "bfloat16":
        array = (rounded(array, dtype).view(np.uint32) >> 16).astype(np.uint16)  # Paddle's bfloat16 in numpy
    elif dtype is not None:
        array = np.asarray(array, dtype)
    return tensors.upload(array, Placement(device))


def to_numpy(tensor):
    """The tensor as numpy, half precision as float32."""
    array = tensor.numpy()
    if tensor.dtype == paddle.bfloat16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check(case, device):
    """Run a case on "cpu" or "gpu" and assert its outputs and what it leaves in its inputs."""
    tensors = [to_device(array, case.dtype if place in case.cast else None, device)
               for place, array in enumerate(case.inputs)]
    outputs = function(case.operator)(*tensors, **case.attributes)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    assert len(outputs) == len(case.expected)
    results = [*outputs, *(tensors[place] for place in case.inplace)]
    for tensor, expected in zip(results, [*case.expected, *case.inplace.values()], strict=True):
        array = to_numpy(tensor)
        assert array.shape == np.shape(expected) and tensor.place.is_gpu_place() == (device == "gpu")
        relative, absolute = case.close
        if array.dtype == np.float32 and tensor.dtype != paddle.float32:
            expected = rounded(expected, case.dtype)
            if relative:  # computed values may be rounded the other way
                relative, absolute = (max(pair) for pair in zip(case.close, STEPS[case.dtype], strict=True))
        np.testing.assert_allclose(array, expected, rtol=relative, atol=absolute)
