"""int4: whole numbers of 4 bits with a float16 scale for each group of 128 columns, symmetric; places: groups.h.

int4z, int4g64 and int4g32 are the same with zero points, and smaller groups.
"""

import numpy as np

from ops.formats import lanes
from ops.formats.base import Codes
from ops.quantisation import dequantised, half_scales

NUMBERS = 512                # bytes of a tile's numbers
CODES, SIGNED = 16, 8        # how many there are; what is added to a signed one where it is stored
STARTS = (1, 0.9, 0.8, 0.7)  # parts of the range of a group's weights from which its scale is searched


class Int4(lanes.LaneFormat):
    """group: columns that share a scale; zero_points: whether each has a zero point, too."""

    code, scale = np.int8, np.float16

    def __init__(self, group, zero_points):
        self.group, self.zero_points = group, zero_points
        self._entries = lanes.COLUMNS // group * (1 + zero_points)  # float16 numbers beside a row of a tile
        self.tile_bytes = NUMBERS + 2 * lanes.ROWS * self._entries
        self.bits = 8 * self.tile_bytes / (lanes.ROWS * lanes.COLUMNS)
        beside = "scales and zero points" if zero_points else "scales"
        self.description = f"4 bits a weight, whole numbers with {beside} for groups of {group} (int4)"

    def quantise(self, matrices):
        """Scale, and zero point if there is one, of the least squared error: the search begins at several ranges, and
        takes for each the scale that is best for the codes that it gives."""
        flat = matrices.reshape(-1, self.group)
        parts = lanes.in_threads(lambda part: self._quantise(flat[part]), lanes.slices(len(flat), self.group))
        codes, scales, zeros = (np.concatenate(part) for part in zip(*parts))
        shape = (*matrices.shape[:-1], matrices.shape[-1] // self.group)
        return Codes(codes.reshape(matrices.shape), scales.reshape(shape),
                     zeros.reshape(shape) if self.zero_points else None)

    def _quantise(self, groups):
        """[groups, columns] -> codes, scales, zero points."""
        numbers = groups.astype(np.float32)
        if self.zero_points:
            low, high = np.minimum(numbers.min(-1), 0), np.maximum(numbers.max(-1), 0)
        else:
            high = np.abs(numbers).max(-1)
            low = -high
        best = None
        for start in STARTS:
            scales = half_scales(start * (high - low) / (CODES - 1))
            zeros = np.clip(np.rint(-start * low / scales), 0, CODES - 1) if self.zero_points else 0 * scales
            centred = self._centred(numbers, scales, zeros)
            squares = np.einsum("gc,gc->g", centred, centred)
            better = np.einsum("gc,gc->g", centred, numbers) / np.maximum(squares, 1)
            scales = half_scales(np.where(squares > 0, better, scales))
            centred = self._centred(numbers, scales, zeros)
            rest = numbers - centred * scales[:, None]
            found = np.einsum("gc,gc->g", rest, rest), centred + zeros[:, None], scales, zeros
            best = found if best is None else [np.where((found[0] < best[0]).reshape(-1, *[1] * (new.ndim - 1)), new,
                                                        old) for new, old in zip(found, best)]
        _, codes, scales, zeros = best
        return codes.astype(np.int8), scales.astype(np.float16), zeros.astype(np.int8)

    def _centred(self, numbers, scales, zeros):
        """The codes of numbers, less the zero points."""
        least = -zeros[:, None] if self.zero_points else -SIGNED
        return np.clip(np.rint(numbers / scales[:, None]), least, least + CODES - 1)

    def dequantise(self, codes):
        return dequantised(codes)

    def check(self, codes, zeros):
        if zeros is not None and not self.zero_points:
            raise ValueError(f"zero points, which {self.name} does not have")
        if codes.dtype != np.int8 or zeros is not None and zeros.dtype != np.int8:
            raise ValueError("codes or zero points of another type than int8")
        least = 0 if zeros is not None else -SIGNED
        if codes.min() < least or codes.max() >= least + CODES:
            raise ValueError(f"codes that are not from {least} to {least + CODES - 1}")

    def put(self, codes, scales, zeros, packed):
        if zeros is None:
            codes, zeros = codes + np.int8(SIGNED), np.full(scales.shape, SIGNED, np.int8)
        two = lanes.pairs(codes.view(np.uint8), "Rtrqn")
        two = two[..., 0::2] | two[..., 1::2] << 4   # a word's bytes 0 and 2, then 1 and 3
        words = np.ascontiguousarray(two.view(np.uint8).reshape(*two.shape[:-1], 4, 2, 2).swapaxes(-1, -2))
        tiles = packed[:, :words.shape[1] * self.tile_bytes].reshape(*words.shape[:2], -1)
        tiles[..., :NUMBERS] = words.reshape(*words.shape[:2], -1)
        beside = np.stack([scales, zeros.astype(np.float16)][:1 + self.zero_points], -1)
        beside = beside.reshape(len(packed), lanes.ROWS, -1, self._entries).swapaxes(1, 2)
        tiles[..., NUMBERS:] = np.ascontiguousarray(beside).view(np.uint8).reshape(*words.shape[:2], -1)

    def take(self, packed, columns):
        tiles = packed[:, :columns // lanes.COLUMNS * self.tile_bytes].reshape(len(packed), -1, self.tile_bytes)
        words = tiles[..., :NUMBERS].reshape(*tiles.shape[:2], lanes.ROWS, 4, 4, 2, 2)
        two = np.ascontiguousarray(words.swapaxes(-1, -2)).view("<u2").reshape(*words.shape[:4], 8)
        two = np.stack([two & 0x0F0F, two >> 4 & 0x0F0F], -1).reshape(*words.shape[:4], 16)
        codes = lanes.from_pairs(two, "Rtrqn").view(np.int8)
        beside = np.ascontiguousarray(tiles[..., NUMBERS:]).view("<f2")
        beside = beside.reshape(*tiles.shape[:2], lanes.ROWS, -1, 1 + self.zero_points).swapaxes(1, 2)
        beside = beside.reshape(lanes.ROWS * len(packed), -1, 1 + self.zero_points)
        if self.zero_points:
            return codes, beside[..., 0], beside[..., 1].astype(np.int8)
        return codes - np.int8(SIGNED), beside[..., 0], None


FORMAT = Int4(128, zero_points=False)
