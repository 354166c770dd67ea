"""Every tile shape of our own matrix products on a GPU, one by one, against fp32 on the CPU."""

import ctypes

import numpy as np

from core.placement import CPU
from ops import formats, library
from ops.framework import import_paddle
from ops.framework.tensors import upload

paddle = import_paddle()
F = paddle.nn.functional

# Deep enough for the longest ring of stages; the last tile of every shape is partly filled in both directions.
TOKENS, DEPTH, ROWS = 150, 1024, 400
ACTIVATIONS = ("no activation", "gelu", "silu and product")  # QwenVlGemm's codes, ops/kernels/common/arguments.h
UNSUPPORTED = 10003  # ops/kernels/common/status.h


def relative_error(ours, reference, where=slice(None)):
    """‖ours - reference‖ / ‖reference‖ of two tensors in float64, or of their rows or places `where`."""
    a, b = (tensor.cpu().astype("float32").numpy().astype(np.float64)[where] for tensor in (ours, reference))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def tile_errors(rng, placement, dtype, format):
    """Yield (name, relative error) of each tile shape with each epilogue that it has on a GPU, in `dtype`.

    format: name of the weights' format. Where the card or the build has no such kernels, there is nothing.
    """
    kernels = library.kernels()
    kernels.qwen_vl_gemm_tile.argtypes = [*[ctypes.c_void_p] * 5, *[ctypes.c_longlong] * 3, *[ctypes.c_int] * 5,
                                          ctypes.c_void_p]
    operands = {"weight": rng.standard_normal([ROWS, DEPTH]) / np.sqrt(DEPTH),
                "x": rng.standard_normal([TOKENS, DEPTH]), "bias": rng.standard_normal([ROWS]),
                "addend": rng.standard_normal([TOKENS, ROWS])}
    # As bfloat16, then as `dtype`: no value of either is rounded again.
    exact = {name: upload(array.astype(np.float32), CPU, "bfloat16").astype("float32")
             for name, array in operands.items()}
    uploaded = {name: upload(tensor.numpy(), placement, dtype) for name, tensor in exact.items()}
    if format != dtype:
        uploaded["weight"] = formats.packed_tensors(format, uploaded["weight"].numpy(), placement)[0]
        exact["weight"] = upload(formats.held(format, exact["weight"].numpy()), CPU)
    for shape in range(kernels.qwen_vl_gemm_tiles()):
        for activation, float_output in ((0, 0), (1, 0), (2, 0), (0, 1)):
            bias, addend = activation < 2 and not float_output, activation == 0 and not float_output
            y = np.zeros([TOKENS, ROWS // (1 + (activation == 2))], np.float32)
            y = upload(exact["addend"].numpy() if addend else y, placement, "float32" if float_output else dtype)
            status = kernels.qwen_vl_gemm_tile(
                uploaded["weight"].data_ptr(), uploaded["x"].data_ptr(), y.data_ptr(),
                uploaded["bias"].data_ptr() if bias else None, y.data_ptr() if addend else None, TOKENS, DEPTH, ROWS,
                int(dtype == "bfloat16"), float_output, activation, formats.NAMES.index(format), shape, None)
            if status == UNSUPPORTED:
                continue
            # CUDA's default stream, on which Paddle copies: the kernel comes after the one copy and before the other.
            error = np.inf if status else relative_error(y, _expected(exact, activation, bias, addend))
            yield f"product (tile shape {shape}, {ACTIVATIONS[activation]}{', fp32' * float_output})", error


def _expected(exact, activation, bias, addend):
    y = paddle.matmul(exact["x"], exact["weight"], transpose_y=True)
    y = y + exact["bias"] if bias else y
    if activation == 1:
        return F.gelu(y)
    if activation == 2:
        gate, up = paddle.split(y, 2, axis=-1)
        return F.silu(gate) * up
    return y + exact["addend"] if addend else y
