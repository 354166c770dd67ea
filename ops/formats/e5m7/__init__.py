"""E5M7: matrices of float16 weights in 13 bits each, without loss, on a GPU (pack.h describes the bits)."""

import ctypes

import numpy as np

from ops import library
from ops.formats.base import Packed, Packer
from ops.formats.e5m7 import reference
from ops.formats.e5m7.reference import COLUMNS, ROWS
from ops.framework import devices, import_paddle, tensors

SLICE_BYTES = 64 << 20    # of a matrix that is on the device as it was


class E5m7(Packed):
    values, bits, description = "float16", 13, "13 bits a weight, without loss (E5M7)"

    def is_usable(self, config, placement):
        # Rows that stand together are of one half of a head.
        return placement.on_gpu and config.kv_channels % (2 * ROWS) == 0 and is_read_here()

    def pack(self, matrices):
        return reference.pack(matrices) if _is_packable(matrices) and not reference.failures(matrices) else None

    def unpack(self, packed):
        return reference.unpack(*packed)

    def packer(self, placement):
        return DevicePacker(placement)

    def pack_on_device(self, kernels, values, to, rows, columns, failed, stream=None):
        """Pack float16 [rows, columns] at the device address `values` to the address `to`, by the library `kernels`,
        and add the number of weights that cannot be packed to the int at `failed`."""
        status = kernels.qwen_vl_e5m7_pack(
            ctypes.c_void_p(values), ctypes.c_void_p(to), ctypes.c_longlong(rows), ctypes.c_longlong(columns),
            ctypes.c_void_p(failed), ctypes.c_void_p(stream))
        if status != 0:
            raise RuntimeError(f"qwen_vl_e5m7_pack failed with status {status}")


FORMAT = E5m7()


def _is_packable(matrices):
    *_, rows, columns = matrices.shape
    return matrices.dtype == np.float16 and not rows % ROWS and not columns % COLUMNS


def is_read_here():
    """Whether the operators read the format on the current GPU: compute capability 9.0, built by CUDA 12 or newer."""
    readable = getattr(library.kernels(), "qwen_vl_e5m7_readable", None)  # not there if built for the CPU
    return readable is not None and bool(readable())


def slices(rows, columns):
    """(first, end) of slices of a float16 matrix [rows, columns]: ROWS rows, or a multiple that SLICE_BYTES hold."""
    step = max(ROWS, SLICE_BYTES // (2 * columns) // ROWS * ROWS)
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


class DevicePacker(Packer):
    """Packs matrices on the GPU, through one buffer that it holds there until `close`."""

    def __init__(self, placement):
        devices.synchronize()  # Paddle's stream may still use memory that its allocator hands out again
        self._empty, self._placement = import_paddle().empty, placement
        self._staging = self._empty([SLICE_BYTES // 2], "float16")
        self._failed = tensors.upload(np.zeros(1, np.int32), placement)
        self._kernels = library.kernels()

    def pack(self, matrices):
        if not _is_packable(matrices):
            return None
        flat, row_bytes = matrices.reshape(-1, matrices.shape[-1]), FORMAT.bytes(matrices.shape[-1:])
        packed = self._empty([*matrices.shape[:-1], row_bytes // 4], "int32")
        for first, end in slices(*flat.shape):
            if not self._pack_slice(flat[first:end], packed.data_ptr() + first * row_bytes):
                return None
        return [packed]

    def _pack_slice(self, values, to):
        """Pack rows of a matrix to an address; returns whether all could be."""
        tensors.write(self._staging, values, self._placement)
        # Paddle copies on CUDA's default stream (null): so the kernel comes after one copy and before the next.
        FORMAT.pack_on_device(self._kernels, self._staging.data_ptr(), to, *values.shape, self._failed.data_ptr())
        return int(self._failed.numpy()[0]) == 0

    def close(self):
        """Give the memory back that the buffer took, and what else Paddle's allocator holds in reserve."""
        self._staging = self._failed = None
        devices.release_memory()
