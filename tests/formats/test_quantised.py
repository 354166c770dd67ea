"""What all formats that round keep: codes come back, the CPU operators' unpacking gives the exact products, and what
cannot be held is refused."""

from dataclasses import replace

import numpy as np
import pytest

from ops import formats
from ops.formats.base import Codes
from tests.formats.quantised_unpack import unpacked

ROWS, COLUMNS = 24, 640
ALL = pytest.mark.parametrize("format", [format.name for format in formats.quantised()])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return tmp_path_factory.mktemp("unpack")


def random_codes(format, stack=(), rows=ROWS, columns=COLUMNS, seed=0):
    """Codes of every number that the format has, with zero points where it has some."""
    rng, shape = np.random.default_rng(seed), (*stack, rows, columns)
    groups = (*shape[:-1], columns // (format.group or columns))
    scales = rng.uniform(0.001, 3, groups).astype(np.float16).astype(np.float32)
    if format.code == np.uint8:
        codes = rng.integers(0, 256, shape).astype(np.uint8)
        return Codes(np.where(codes & 0x7F == 0x7F, codes - 1, codes), scales)
    if not format.group:
        return Codes(rng.integers(-128, 128, shape).astype(np.int8), scales)
    least = 0 if format.zero_points else -8
    zeros = rng.integers(0, 17, groups).astype(np.int8) if format.zero_points else None
    return Codes(rng.integers(least, least + 16, shape).astype(np.int8), scales, zeros)


@ALL
def test_codes_come_back(format):
    format = formats.get(format)
    for stack, rows, columns in (((), ROWS, COLUMNS), ((3,), 8, 128), ((2, 2), 16, 256), ((), 1032, 4096 + 128)):
        codes = random_codes(format, stack, rows, columns)
        (words,) = packed = format.pack_codes(codes)
        assert words.dtype == np.int32 and words.shape[:-1] == codes.codes.shape[:-1]
        assert words.nbytes == format.bytes(codes.codes.shape)
        again = format.codes(packed)
        assert again.codes.dtype == format.code and np.array_equal(again.codes, codes.codes)
        assert np.array_equal(again.scales, codes.scales)
        assert again.zeros is codes.zeros is None or np.array_equal(again.zeros, codes.zeros)


@ALL
def test_the_cpu_unpacks_the_exact_products(program, format):
    format = formats.get(format)
    codes = random_codes(format)
    words, exact = format.pack_codes(codes)[0], format.dequantise(codes)
    assert exact.dtype == np.float32
    for first, count in ((0, ROWS), (3, 1), (7, 10)):
        np.testing.assert_array_equal(unpacked(program, format.name, words, COLUMNS, first, count),
                                      exact[first:first + count])


@ALL
def test_a_signed_code_needs_no_zero_point(format):
    """Where zero points are held, a matrix without any is kept as the same weights."""
    format = formats.get(format)
    if not format.zero_points:
        with pytest.raises(ValueError, match="zero points"):
            codes = random_codes(format)
            format.pack_codes(replace(codes, zeros=np.zeros(codes.scales.shape, np.int8)))
        return
    codes = replace(random_codes(format), zeros=None)
    codes = replace(codes, codes=codes.codes - np.int8(8))
    again = format.codes(format.pack_codes(codes))
    assert np.array_equal(format.dequantise(again), format.dequantise(codes))


@ALL
@pytest.mark.parametrize("value", [0, -1, np.inf, np.nan, 1e-50])
def test_a_scale_that_is_none_is_refused(format, value):
    format = formats.get(format)
    codes = random_codes(format)
    scales = codes.scales.astype(np.float64)
    scales[5, 0] = value
    with pytest.raises(ValueError, match="scales"):
        format.pack_codes(replace(codes, scales=scales))


@ALL
def test_shapes_that_do_not_fit_are_refused(format):
    format = formats.get(format)
    for rows, columns in ((12, 128), (8, 64 * 3), (4, 256)):
        with pytest.raises(ValueError, match=f"{rows} rows and {columns} columns"):
            format.pack_codes(Codes(np.zeros((rows, columns), format.code), np.ones((rows, 1))))
    codes = random_codes(format)
    with pytest.raises(ValueError, match="scales of shape"):
        format.pack_codes(replace(codes, scales=codes.scales[:, :0]))
    with pytest.raises(ValueError, match="type"):
        format.pack_codes(replace(codes, codes=codes.codes.astype(np.int32)))


@ALL
def test_rounding_is_as_good_as_its_bits(format):
    """Of normal weights; zeros stay zeros, and so does the sign of all that is not rounded to zero."""
    format = formats.get(format)
    weights = np.random.default_rng(1).standard_normal((2, 64, 1024)).astype(np.float16)
    weights[0, 3] = 0
    found = format.dequantise(format.codes(format.pack(weights)))
    error = np.linalg.norm(found - weights) / np.linalg.norm(weights.astype(np.float32))
    assert error < {8: 0.03, 4: 0.11}[int(format.bits) // 4 * 4]
    assert not found[0, 3].any() and (found * weights >= 0).all()


@pytest.mark.parametrize("format", [format.name for format in formats.quantised()
                                    if format.code == np.int8 and not format.zero_points])
def test_what_it_holds_already_is_not_rounded(format):
    """Weights that a format gave are quantised to the same ones, where each group has its largest number."""
    format = formats.get(format)
    codes = random_codes(format)
    codes.codes.reshape(*codes.scales.shape, -1)[..., 0] = -127 if not format.group else -8
    codes = replace(codes, codes=np.maximum(codes.codes, -127))
    exact = format.dequantise(codes)
    np.testing.assert_allclose(format.dequantise(format.quantise(exact)), exact, rtol=2e-3)
