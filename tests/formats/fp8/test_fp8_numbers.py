"""The numbers of e4m3 by their definition, and rounding to them."""

import numpy as np
import pytest

from ops import formats
from ops.formats.base import Codes

FORMAT = formats.get("fp8")
FINITE = [bits for bits in range(256) if bits & 0x7F != 0x7F]


def value(bits):
    """A sign, 4 bits of exponent (bias 7), 3 of mantissa; exponent 0: no leading one."""
    sign, exponent, mantissa = bits >> 7, bits >> 3 & 15, bits & 7
    magnitude = (1 + mantissa / 8) * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0 ** -6
    return -magnitude if sign else magnitude


def test_every_number():
    codes = np.array(FINITE * 64, np.uint8).reshape(64, -1)
    weights = FORMAT.dequantise(Codes(codes, np.ones((64, 1), np.float32)))
    assert weights.ravel().tolist() == [value(bits) for bits in FINITE] * 64


def test_the_nearest_number_is_taken_and_of_two_the_even_one():
    known = np.array([value(bits) for bits in FINITE])
    middles = (known[:127][1:] + known[:127][:-1]) / 2
    numbers = np.concatenate([known, middles, -middles, np.nextafter(middles, 0, dtype=np.float32),
                              np.nextafter(middles, 1e9, dtype=np.float32), [500, -1e9, 2e-10],
                              np.random.default_rng(0).standard_normal(1000)]).astype(np.float32)
    distance = np.abs(numbers[:, None].astype(np.float64) - known)
    for number, found, row in zip(numbers, FORMAT.nearest(numbers), distance):
        closest = [FINITE[i] for i in np.flatnonzero(row == row.min())]
        assert value(found) == value(min(closest, key=lambda bits: bits & 1)), number


@pytest.mark.parametrize("bits", [0x7F, 0xFF])
def test_what_is_no_number_is_refused(bits):
    codes = np.zeros((8, 128), np.uint8)
    codes[3, 100] = bits
    with pytest.raises(ValueError, match="not a number"):
        FORMAT.pack_codes(Codes(codes, np.ones((8, 1))))


def test_the_largest_weight_of_a_row_becomes_448():
    weights = np.zeros((8, 128), np.float32)
    weights[:, :2] = [[-7, 3.5]]
    codes = FORMAT.quantise(weights)
    assert (codes.codes[:, :2] == [0xFE, 0x76]).all() and np.allclose(codes.scales, 7 / 448)
