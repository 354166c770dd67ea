"""Quantised matrices whose numbers stand together by the lanes of a warp that take them (lanes.h), in numpy."""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ops.formats.base import Codes, Quantised

ROWS, COLUMNS = 8, 128  # of a tile
LINE = 128              # bytes of memory that are fetched together; those of eight rows are whole ones
SLICE = 1 << 22         # weights that a thread packs or quantises at once: temporaries of some 100 MB
THREADS = min(16, os.cpu_count() or 1)

MATRIX = "Rrtnq"        # axes of its pairs of neighbouring columns: eight rows, row, tile, pair, quad


class LaneFormat(Quantised):
    """What such formats share. They add

    code (NumPy's type of a code), tile_bytes (of a tile), row_group_bytes (what eight rows have behind their tiles),
    check(codes, zeros), which raises ValueError for what it cannot hold,
    put(codes, scales, zeros, packed), which packs rows, and take(packed, columns), its inverse; packed is u8 [eights of
    rows, bytes].
    """

    values, row_group_bytes = "float16", 0

    def bytes(self, shape):
        *rows, columns = shape
        return math.prod(rows) * self._eight_rows(columns) // ROWS

    def _eight_rows(self, columns):
        return -(-(columns // COLUMNS * self.tile_bytes + self.row_group_bytes) // LINE) * LINE

    def is_usable(self, config, placement):
        """Tiles fill all matrices, and lie in one half of a head."""
        sizes = config.hidden_size, config.intermediate_size // 2
        return (not any(size % COLUMNS for size in sizes) and config.kv_channels % (2 * ROWS) == 0
                and config.vocab_size % ROWS == 0)

    def pack_codes(self, codes):
        *stack, rows, columns = codes.codes.shape
        if rows % ROWS or columns % COLUMNS:
            raise ValueError(f"matrices of {rows} rows and {columns} columns: {self.name} takes a multiple of {ROWS} "
                             f"rows and of {COLUMNS} columns")
        groups = columns // (self.group or columns)
        if codes.scales.shape != (*stack, rows, groups):
            raise ValueError(f"scales of shape {list(codes.scales.shape)}, expected {[*stack, rows, groups]}")
        packed = np.zeros((math.prod(stack) * rows // ROWS, self._eight_rows(columns)), np.uint8)
        parts = [array if array is None else array.reshape(-1, array.shape[-1])
                 for array in (codes.codes, codes.scales, codes.zeros)]

        def put(part):
            of_rows = slice(part.start * ROWS, part.stop * ROWS)
            numbers, scales, zeros = (array if array is None else array[of_rows] for array in parts)
            self.check(numbers, zeros)
            self.put(numbers, self._kept(scales), zeros, packed[part])

        in_threads(put, slices(len(packed), ROWS * columns))
        return [packed.view("<i4").reshape(*stack, rows, -1)]

    def _kept(self, scales):
        with np.errstate(over="ignore"):
            kept = scales.astype(self.scale)
        if not (np.isfinite(kept) & (kept > 0) & (kept == scales)).all():
            raise ValueError(f"scales that are not finite, not above zero, or no {np.dtype(self.scale).name} numbers")
        return kept

    def codes(self, packed):
        words = np.ascontiguousarray(packed[0])
        *stack, rows, width = words.shape
        columns = (4 * ROWS * width - self.row_group_bytes) // self.tile_bytes * COLUMNS
        flat = words.view(np.uint8).reshape(-1, 4 * ROWS * width)
        parts = in_threads(lambda part: self.take(flat[part], columns), slices(len(flat), ROWS * columns))
        codes, scales, zeros = ([] if part[0] is None else np.concatenate(part) for part in zip(*parts))
        shape = (*stack, rows, -1)
        return Codes(codes.reshape(shape), scales.reshape(shape), zeros.reshape(shape) if len(zeros) else None)


def slices(count, weights):
    """Slices of `count` things of so many weights each, SLICE weights together or one thing."""
    step = max(1, SLICE // weights)
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def in_threads(function, parts):
    """function(part) of each, in their order: NumPy lets other threads run while it computes."""
    if len(parts) == 1:
        return [function(parts[0])]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, parts))


def pairs(codes, order):
    """uint8 [rows, columns] -> u2 of two neighbouring columns, the first in the lower byte, with MATRIX in `order`."""
    two = np.ascontiguousarray(codes).view("<u2").reshape(-1, ROWS, codes.shape[-1] // COLUMNS, 16, 4)
    return np.ascontiguousarray(two.transpose([MATRIX.index(axis) for axis in order]))


def from_pairs(two, order):
    """The inverse of `pairs`: uint8 [rows, columns]."""
    back = two.transpose([order.index(axis) for axis in MATRIX])
    return np.ascontiguousarray(back).view(np.uint8).reshape(ROWS * len(two), -1)
