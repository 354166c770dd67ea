"""E5M7 (pack.h) in numpy, written from the format's description; no framework."""

import numpy as np

COLUMNS, WORDS = 128, 52  # of a granule
ROWS = 8  # whose granules stand together
PAIRS, WHOLE, QUADS = 16, 13, 4  # of a quad: pairs, those of them with a word of their own; quads of a granule


def stored(matrix):
    """The bits of each weight times 1024 as float16; what is packed are the upper 13."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (np.asarray(matrix, np.float16) * np.float16(1024)).view(np.uint16)


def failures(matrix):
    """How many weights cannot be packed: more than 8 significant bits, 64 or more in magnitude, or not a number."""
    bits = stored(matrix)
    return int(((bits & 7 != 0) | (bits & 0x7C00 == 0x7C00)).sum())


def _places(rows):
    """[rows, 13 words, 4 quads]: where a granule has each word, in words."""
    word, quad = np.arange(WHOLE)[:, None], np.arange(QUADS)
    planes, tail = word // 4 * 16 + quad * 4 + word % 4, quad
    even = np.where(word < 12, planes + 4, tail)
    odd = np.where(word < 12, planes, tail + 48)
    return np.where((np.arange(rows) % 2 == 1)[:, None, None], odd, even)


def pack(matrices):
    """float16 [.., rows, columns] without failures -> [i32 [.., rows, columns / 128 * 52]], in the order of memory."""
    matrix = matrices.reshape(-1, matrices.shape[-1])
    rows, columns = matrix.shape
    halves = stored(matrix).astype(np.uint32).reshape(rows, -1, PAIRS, QUADS, 2)
    pairs = halves[..., 0] | halves[..., 1] << 16
    words = pairs[:, :, :WHOLE].copy()
    for e in range(PAIRS - WHOLE):
        extra = pairs[:, :, WHOLE + e]
        for j in range(4):
            words[:, :, 4 * e + j] |= extra >> (13 - 3 * j) & 0x00070007
        words[:, :, 12] |= (extra >> 3 & 0x00010001) << e
    packed = np.zeros((rows, columns // COLUMNS, WORDS), np.uint32)
    places = np.broadcast_to(_places(rows)[:, None], words.shape)
    np.put_along_axis(packed, places.reshape(*packed.shape), words.reshape(*packed.shape), -1)
    packed = packed.reshape(rows // ROWS, ROWS, -1, WORDS).swapaxes(1, 2)
    return [np.ascontiguousarray(packed).view(np.int32).reshape(*matrices.shape[:-1], -1)]


def unpack(packed):
    """The inverse: i32 [.., rows, columns / 128 * 52] -> float16 [.., rows, columns]."""
    words = np.ascontiguousarray(packed).view(np.uint32)
    rows = words.size // words.shape[-1]
    granules = words.reshape(rows // ROWS, -1, ROWS, WORDS).swapaxes(1, 2).reshape(rows, -1, WORDS)
    places = np.broadcast_to(_places(rows).reshape(rows, 1, WORDS), granules.shape)
    words = np.take_along_axis(granules, places, -1).reshape(rows, -1, WHOLE, QUADS)
    pairs = np.zeros((rows, granules.shape[1], PAIRS, QUADS), np.uint32)
    pairs[:, :, :WHOLE] = words & 0xFFF8FFF8
    for e in range(PAIRS - WHOLE):
        extra = (words[:, :, 12] >> e & 0x00010001) << 3
        for j in range(4):
            extra |= (words[:, :, 4 * e + j] & 0x00070007) << (13 - 3 * j)
        pairs[:, :, WHOLE + e] = extra
    halves = np.stack([pairs & 0xFFFF, pairs >> 16], -1).astype(np.uint16)
    return halves.view(np.float16).reshape(*packed.shape[:-1], -1) * np.float16(1 / 1024)
