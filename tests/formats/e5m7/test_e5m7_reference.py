"""The numpy reference of E5M7 against itself and against the places that its description names."""

import numpy as np
import pytest

from ops.formats.e5m7.reference import failures, pack, unpack


def once_bfloat16(rows, columns, scale=1.0):
    """Normal float16 numbers that bfloat16 holds too: the lower 16 bits of their float32 are zero."""
    values = np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32) * np.float32(scale)
    values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(np.float16)


@pytest.mark.parametrize("rows,columns", [(8, 128), (24, 256), (16, 640)])
@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_round_trip(rows, columns, scale):
    matrix = once_bfloat16(rows, columns, scale)
    (packed,) = pack(matrix)
    assert packed.dtype == np.int32 and packed.shape == (rows, columns // 128 * 52)
    assert (unpack(packed).view(np.uint16) == matrix.view(np.uint16)).all()


def test_every_weight_that_fits_survives():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    packable = every[[failures(value[None]) == 0 for value in every]]
    assert len(packable) == 2 * (20 * 128 + 512)  # signs; normal ones with 7 bits of mantissa; subnormal ones and zero
    matrix = packable.reshape(-1, 256)
    assert (unpack(*pack(matrix)).view(np.uint16) == matrix.view(np.uint16)).all()


def test_what_does_not_fit_is_counted():
    assert failures(np.float16([[1, 63.75, -0.0, 2.0 ** -24, 1 + 2.0 ** -7]])) == 0
    assert failures(np.float16([[64, -64, np.inf, np.nan, 1 + 2.0 ** -8]])) == 5


def word_of(row, column, columns=128):
    """The words in which a matrix with a single weight, all bits set that can be, has bits: {word: bits}; words are
    counted from the begin of its granule, which is where the description says."""
    matrix = np.zeros((16, columns), np.float16)
    matrix[row, column] = -63.75
    words = pack(matrix)[0].view(np.uint32).reshape(-1)
    granule = (row // 8 * (columns // 128) + column // 128) * 8 * 52 + row % 8 * 52
    return {int(i) - granule: int(words[i]) for i in np.flatnonzero(words)}


def test_places():
    bits = 0xFBF8  # of -63.75 times 1024
    assert word_of(0, 0) == {4: bits}  # word 0 of quad 0, behind the tail
    assert word_of(1, 0) == {0: bits}
    assert word_of(13, 128 * 2, columns=384) == {0: bits}
    assert word_of(6, 128, columns=256) == {4: bits}
    assert word_of(1, 1) == {0: bits << 16}
    assert word_of(0, 8 * 5 + 2 * 3 + 1) == {4 + 16 + 4 * 3 + 1: bits << 16}  # word 5 of quad 3
    assert word_of(0, 8 * 12 + 2) == {1: bits}  # word 12 of quad 1, in front in even rows
    assert word_of(1, 8 * 12 + 2) == {49: bits}
    # pair 14 of quad 2: 111 110 111 111 1 from the top, in words 4 to 7 and bit 1 of word 12
    assert word_of(1, 8 * 14 + 4) == {24: 0b111, 25: 0b110, 26: 0b111, 27: 0b111, 50: 0b10}
