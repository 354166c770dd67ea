"""Matrices of float16 weights in 13 bits each, without loss, on a GPU (ops/kernels/common/e5m7.h has the format)."""

import contextlib
import ctypes

import numpy as np

from ops import library
from ops.framework import devices, import_paddle, tensors

paddle = import_paddle()

COLUMNS, WORDS = 128, 52  # columns that are packed together, and their 32-bit words
ROWS = 8                  # rows that stand together
HEAD_DIM = 2 * ROWS       # heads of a multiple of it are read: rows that stand together are of one half of a head
SLICE_BYTES = 64 << 20    # of a matrix that is on the device as it was


def is_read_here():
    """Whether the operators read the format on the current GPU: compute capability 9.0, built by CUDA 12 or newer."""
    readable = getattr(_kernels(), "qwen_vl_e5m7_readable", None)  # not there if built for the CPU
    return readable is not None and bool(readable())


def _kernels():
    return ctypes.CDLL(str(library.path()))


def slices(rows, columns):
    """(first, end) of slices of a float16 matrix [rows, columns]: ROWS rows, or a multiple that SLICE_BYTES hold."""
    step = max(ROWS, SLICE_BYTES // (2 * columns) // ROWS * ROWS)
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


class Packer:
    """Packs matrices on the GPU, through one buffer that it holds there until `close`."""

    def __init__(self, placement):
        devices.synchronize()  # Paddle's stream may still use memory that its allocator hands out again
        self._staging = paddle.empty([SLICE_BYTES // 2], "float16")
        self._failed = tensors.upload(np.zeros(1, np.int32), placement)
        self._placement = placement
        self._pack = _kernels().qwen_vl_e5m7_pack
        self._pack.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_longlong] * 2, *[ctypes.c_void_p] * 2]

    def pack(self, matrices):
        """Matrices in E5M7: a Paddle tensor i32 [.., rows, columns / 128 * 52]; None if they cannot be packed.

        matrices: numpy [.., rows, columns], contiguous. What can be packed is float16 of at most 8 significant bits and
        a magnitude below 64, with a multiple of 8 rows and of 128 columns.
        """
        *_, rows, columns = matrices.shape
        if matrices.dtype != np.float16 or rows % ROWS or columns % COLUMNS:
            return None
        packed = paddle.empty([*matrices.shape[:-1], columns // COLUMNS * WORDS], "int32")
        flat, row_bytes = matrices.reshape(-1, columns), columns // COLUMNS * WORDS * 4
        for first, end in slices(len(flat), columns):
            if not self._pack_slice(flat[first:end], packed.data_ptr() + first * row_bytes):
                return None
        return packed

    def _pack_slice(self, values, to):
        """Pack rows of a matrix to an address; returns whether all could be."""
        tensors.write(self._staging, values, self._placement)
        # Paddle copies on CUDA's default stream (null): so the kernel comes after one copy and before the next.
        status = self._pack(self._staging.data_ptr(), to, *values.shape, self._failed.data_ptr(), None)
        if status != 0:
            raise RuntimeError(f"qwen_vl_e5m7_pack failed with status {status}")
        return int(self._failed.numpy()[0]) == 0

    def close(self):
        """Give the memory back that the buffer took, and what else Paddle's allocator holds in reserve."""
        self._staging = self._failed = None
        devices.release_memory()


def packed(matrix, placement):
    """One numpy matrix as Packer.pack makes it, whatever Paddle's default device is."""
    with devices.using(placement), contextlib.closing(Packer(placement)) as packer:  # it takes memory there
        return packer.pack(matrix)
