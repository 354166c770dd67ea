"""Where the formats of 4 bits keep a weight, a scale and a zero point, by the description in ops/formats/int4/groups.h;
and how they choose a scale."""

import numpy as np
import pytest

from ops import formats
from ops.formats.base import Codes

ROWS, COLUMNS = 16, 384
VARIANTS = [format.name for format in formats.quantised() if format.group]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_has_its_place(name):
    format, rng = formats.get(name), np.random.default_rng(0)
    groups, entry = COLUMNS // format.group, 2 * (1 + format.zero_points)
    beside = 128 // format.group * entry
    tile = 512 + 8 * beside
    group_bytes = -(-3 * tile // 128) * 128
    signed = 0 if format.zero_points else 8
    codes = rng.integers(0, 16, (ROWS, COLUMNS)).astype(np.int8) - np.int8(signed)
    scales = rng.uniform(0.1, 2, (ROWS, groups)).astype(np.float16)
    zeros = rng.integers(-3, 20, (ROWS, groups)).astype(np.int8) if format.zero_points else None
    kept = format.pack_codes(Codes(codes, scales, zeros))[0].view(np.uint8).ravel()
    assert kept.size == ROWS // 8 * group_bytes == format.bytes([ROWS, COLUMNS])
    for row in range(ROWS):
        r = row % 8
        for column in range(COLUMNS):
            n, q, h = column % 128 // 8, column % 8 // 2, column % 2
            s, i = divmod(n, 4)
            begin = row // 8 * group_bytes + column // 128 * tile
            word = kept[begin + 64 * r + 16 * q + 4 * s:][:4].view("<u4")[0]
            assert int(word) >> (16 * h + 4 * i) & 15 == codes[row, column] + signed
            of_group = begin + 512 + r * beside + column % 128 // format.group * entry
            assert kept[of_group:of_group + 2].view("<f2")[0] == scales[row, column // format.group]
            if format.zero_points:
                assert kept[of_group + 2:of_group + 4].view("<f2")[0] == zeros[row, column // format.group]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_scale_has_less_squared_error_than_the_whole_range(name):
    format = formats.get(name)
    weights = np.random.default_rng(2).standard_normal((64, 1024)).astype(np.float32)
    groups = weights.reshape(-1, format.group)
    if format.zero_points:
        low, high = groups.min(-1), groups.max(-1)
    else:
        high = np.abs(groups).max(-1)
        low = -high
    scales = ((high - low) / 15)[:, None]
    zero = np.rint(-low[:, None] / scales) if format.zero_points else 8
    plain = (np.clip(np.rint(groups / scales) + zero, 0, 15) - zero) * scales
    found = format.dequantise(format.quantise(weights)).reshape(groups.shape)
    errors = [np.square(groups - numbers).sum(-1) for numbers in (found, plain)]
    assert errors[0].sum() < 0.95 * errors[1].sum() and (errors[0] < 1.01 * errors[1] + 1e-6).mean() > 0.99


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_of_any_size_have_a_scale(name):
    """float16 holds no scale below 2^-24, none above 65504."""
    format = formats.get(name)
    for size in (1e-12, 1e-6, 1.0, 6e4, 1e8):
        weights = np.random.default_rng(3).standard_normal((8, 128)).astype(np.float32) * np.float32(size)
        found = format.dequantise(format.codes(format.pack(weights)))
        assert np.isfinite(found).all() and (size in (1e-12, 1e-6) or np.abs(found).max() > min(size, 2e5))
