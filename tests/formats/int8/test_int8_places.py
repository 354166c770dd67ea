"""Where int8 keeps a weight and a scale, by the description in ops/formats/row_scaled.h."""

import numpy as np

from ops import formats
from ops.formats.base import Codes

FORMAT = formats.get("int8")


def place(row, column, columns):
    """The byte of a weight, counted from the matrix's begin."""
    tile, n, q, h = column // 128, column % 128 // 8, column % 8 // 2, column % 2
    p, m = divmod(n, 8)
    return row // 8 * (8 * columns + 128) + tile * 1024 + 512 * p + 64 * (row % 8) + 16 * q + 2 * m + h


def test_every_weight_has_its_place():
    rows, columns = 16, 384
    codes = np.random.default_rng(0).integers(-128, 128, (rows, columns)).astype(np.int8)
    scales = np.linspace(0.5, 2, rows, dtype=np.float32)[:, None]
    kept = FORMAT.pack_codes(Codes(codes, scales))[0].view(np.uint8).ravel()
    for row in range(rows):
        for column in range(columns):
            assert kept[place(row, column, columns)] == codes[row, column] + 128
        scale_at = row // 8 * (8 * columns + 128) + 8 * columns + 4 * (row % 8)
        assert kept[scale_at:scale_at + 4].view("<f4") == scales[row, 0]
    assert kept.size == rows * (columns + 16) == FORMAT.bytes([rows, columns])


def test_the_largest_weight_of_a_row_becomes_127():
    weights = np.array([[1.0, -2.0, 0.5] + [0.0] * 125, [0.0] * 128] * 4, np.float32)
    codes = FORMAT.quantise(weights)
    assert codes.codes[0, :3].tolist() == [64, -127, 32] and codes.scales[:2, 0].tolist() == [np.float32(2 / 127), 1]
