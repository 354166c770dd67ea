"""Packing of E5M7 slice by slice, and where the format is taken; on the CPU, the kernel's part by the reference."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from core.placement import Placement
from ops.formats import e5m7
from ops.formats.e5m7 import reference
from ops.framework import import_paddle


class PackerOnCpu(e5m7.DevicePacker):
    """Packs by the reference, slice by slice as on a GPU; what cannot be packed is told from the slice."""

    def __init__(self):
        self.slices, self._empty = [], import_paddle().empty

    def _pack_slice(self, values, to):
        self.slices.append(values.shape)
        packed = e5m7.FORMAT.pack(values)
        if packed:
            ctypes.memmove(to, packed[0].ctypes.data, packed[0].nbytes)
        return bool(packed)


def packable(*shape):
    """float16 numbers that came from bfloat16."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32).view(np.uint32) & 0xFFFF0000
    return values.view(np.float32).astype(np.float16)


@pytest.mark.parametrize("limit", [1, 4096, 15000, 1 << 20])
@pytest.mark.parametrize("shape", [(3, 16, 256), (24, 384)])
def test_slices_make_the_packed_matrix(monkeypatch, shape, limit):
    monkeypatch.setattr(e5m7, "SLICE_BYTES", limit)
    matrices, packer = packable(*shape), PackerOnCpu()
    packed = packer.pack(matrices)[0].numpy()
    assert packed.shape == (*shape[:-1], shape[-1] // 128 * 52)
    for made, matrix in zip(packed.reshape(-1, shape[-2], packed.shape[-1]), matrices.reshape(-1, *shape[-2:])):
        np.testing.assert_array_equal(made, *reference.pack(matrix))
    assert all(rows % 8 == 0 and rows * columns * 2 <= max(limit, 16 * columns) for rows, columns in packer.slices)


@pytest.mark.parametrize("rows, columns", [(8, 4096), (24, 128), (151936, 4096), (32 * 4096, 11008)])
def test_slices_follow_one_another(rows, columns):
    made = e5m7.slices(rows, columns)
    assert [first for first, _ in made] == [0, *(end for _, end in made[:-1])] and made[-1][1] == rows
    assert all(first < end and first % 8 == 0 and (end - first) * columns * 2 <= 64 << 20 for first, end in made)


@pytest.mark.parametrize("matrix", [packable(8, 192), packable(12, 256), packable(8, 128).astype(np.float32),
                                    np.full([8, 128], 1 + 2 ** -8, np.float16), np.full([8, 128], 64, np.float16)])
def test_other_matrices_are_not_packed(matrix):
    assert PackerOnCpu().pack(matrix) is None and e5m7.FORMAT.pack(matrix) is None


@pytest.mark.parametrize("kind, read, head_dim, usable", [
    ("gpu", True, 128, True), ("gpu", False, 128, False), ("cpu", True, 128, False), ("gpu", True, 72, False)])
def test_where_it_is_usable(monkeypatch, kind, read, head_dim, usable):
    monkeypatch.setattr(e5m7, "is_read_here", lambda: read)
    assert e5m7.FORMAT.is_usable(SimpleNamespace(kv_channels=head_dim), Placement(kind)) is usable


def test_bytes():
    assert e5m7.FORMAT.bytes([3, 16, 256]) == e5m7.FORMAT.pack(packable(3, 16, 256))[0].nbytes == 3 * 16 * 256 * 13 // 8
