"""Formats of one byte a weight and one scale a row (row_scaled.h), in numpy."""

import numpy as np

from ops.formats import lanes
from ops.formats.base import Codes

SCALES = lanes.ROWS * 4  # bytes of the scales of eight rows


class RowScaled(lanes.LaneFormat):
    """What such formats share. They add `limit` (the largest code as a number), `numbers` (codes -> float32), `nearest`
    (float32 -> codes) and `offset` (what is added to the bits of a code where it is stored)."""

    bits, offset, scale, tile_bytes, row_group_bytes = 8, 0, np.float32, lanes.ROWS * lanes.COLUMNS, SCALES

    def quantise(self, matrices):
        """A row's scale makes its largest magnitude the largest code; it is 1 of zeros."""
        codes, scales = np.empty(matrices.shape, self.code), np.empty((*matrices.shape[:-1], 1), np.float32)
        flat = [array.reshape(-1, array.shape[-1]) for array in (matrices, codes, scales)]

        def quantise(part):
            numbers = flat[0][part].astype(np.float32)
            most = np.abs(numbers).max(-1, keepdims=True)
            flat[2][part] = np.where(most > 0, most / np.float32(self.limit), np.float32(1))
            flat[1][part] = self.nearest(numbers / flat[2][part])

        lanes.in_threads(quantise, lanes.slices(len(flat[0]), matrices.shape[-1]))
        return Codes(codes, scales)

    def dequantise(self, codes):
        return self.numbers(codes.codes) * codes.scales.astype(np.float32)

    def check(self, codes, zeros):
        if zeros is not None:
            raise ValueError(f"zero points, which {self.name} does not have")
        if codes.dtype != self.code:
            raise ValueError(f"codes of type {codes.dtype}, expected {np.dtype(self.code).name}")

    def put(self, codes, scales, zeros, packed):
        two = lanes.pairs(codes.view(np.uint8) + np.uint8(self.offset), "Rtnrq")
        halves = two.reshape(*two.shape[:2], 2, 8, *two.shape[3:]).transpose(0, 1, 2, 4, 5, 3)
        packed[:, :halves[0].size * 2] = np.ascontiguousarray(halves).view(np.uint8).reshape(len(packed), -1)
        packed[:, halves[0].size * 2:][:, :SCALES] = scales.astype("<f4").view(np.uint8).reshape(len(packed), -1)

    def take(self, packed, columns):
        numbers = lanes.ROWS * columns
        halves = np.ascontiguousarray(packed[:, :numbers]).view("<u2")
        halves = halves.reshape(len(packed), -1, 2, lanes.ROWS, 4, 8).transpose(0, 1, 2, 5, 3, 4)
        two = halves.reshape(*halves.shape[:2], 16, lanes.ROWS, 4)
        codes = lanes.from_pairs(two, "Rtnrq") - np.uint8(self.offset)
        scales = np.ascontiguousarray(packed[:, numbers:][:, :SCALES]).view("<f4")
        return codes.view(self.code), scales.reshape(-1, 1), None
