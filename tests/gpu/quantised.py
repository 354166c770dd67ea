"""Quantised weights on a GPU for the kernels' tests, by torch: random ones that a format holds exactly, and so does
float16; and their words, by the descriptions of the places in ops/formats/lanes.h and the formats' own headers."""

import math

import torch

from ops import formats

ROWS, COLUMNS = 8, 128  # of a tile


def random_weights(name, shape, spread, generator):
    """float16 [.., rows, columns] of about this spread. The first columns of what shares a scale have the numbers from
    which `pack` finds it again; scales have three bits, so that float16 holds all products."""
    format = formats.get(name)
    *rows, columns = shape
    group = format.group or columns
    grouped = (*rows, columns // group, group)

    def integers(low, high, shape):
        return torch.randint(low, high, shape, device="cuda", generator=generator, dtype=torch.int16)

    if format.code.__name__ == "uint8":
        bits = integers(0, 256, grouped).to(torch.uint8)
        bits = torch.where(bits & 0x7F == 0x7F, bits - 1, bits)
        bits[..., 0] = 0x7E
        numbers, largest = bits.view(torch.float8_e4m3fn).half(), 256
    elif format.zero_points:
        zeros = integers(5, 11, (*grouped[:-1], 1))
        numbers = integers(0, 16, grouped)
        numbers[..., 0], numbers[..., 1] = 0, 15
        numbers, largest = (numbers - zeros).half(), 8
    else:  # without a mean, by which all outputs would have a large part in common
        largest = 8 if format.group else 128
        numbers = integers(1 - largest, largest, grouped)
        numbers[..., 0] = integers(0, 2, grouped[:-1]) * (1 - 2 * largest) + largest - 1
        numbers = numbers.half()
    step = 2.0 ** math.floor(math.log2(spread / largest / 4))
    scales = integers(4, 8, (*grouped[:-1], 1)).half() * step
    return (numbers * scales).reshape(shape)


def pack(weight, name):
    """Such weights as the kernels take them: u8 [.., rows, bytes of a row]."""
    *stack, rows, columns = weight.shape
    flat = weight.reshape(-1, rows, columns)
    packed = torch.zeros(len(flat), rows, formats.get(name).bytes([columns]), dtype=torch.uint8, device="cuda")
    for matrix, to in zip(flat, packed):  # one by one, for the memory that it takes
        _pack(matrix, formats.get(name), to.view(rows // ROWS, -1))
    return packed.view(*stack, rows, -1)


def _scale_of(first, largest):
    """Of numbers that are -largest or largest - 1 times it."""
    return torch.where(first < 0, first / -largest, first / (largest - 1)).half().float()


def _pack(matrix, format, to):
    rows, columns = matrix.shape
    eights, tiles = rows // ROWS, columns // COLUMNS
    groups = matrix.float().view(rows, -1, format.group or columns)
    first, second = groups[..., 0], groups[..., 1]
    if not format.group:
        if format.code.__name__ == "uint8":
            scales = (first / 448).half().float()  # (torch multiplies by a reciprocal)
            codes = (groups / scales[..., None]).to(torch.float8_e4m3fn).view(torch.uint8)
        else:
            scales = _scale_of(first, 128)
            codes = ((groups / scales[..., None]).round() + 128).to(torch.uint8)
        pairs = codes.view(eights, ROWS, tiles, 2, 8, 4, 2).permute(0, 2, 3, 1, 5, 4, 6)
        to[:, :ROWS * columns] = pairs.reshape(eights, -1)
        to[:, ROWS * columns:ROWS * columns + 4 * ROWS] = scales.reshape(eights, ROWS).contiguous().view(torch.uint8)
        return
    scales = (second - first) / 15 if format.zero_points else _scale_of(first, 8)
    zeros = (-first / scales).round() if format.zero_points else torch.full_like(first, 8)
    codes = ((groups / scales[..., None]).round() + zeros[..., None]).to(torch.uint8)
    codes = codes.view(eights, ROWS, tiles, 4, 2, 2, 4, 2)
    codes = codes[..., 0, :, :] | codes[..., 1, :, :] << 4
    beside = torch.stack([scales, zeros][:1 + format.zero_points], -1).half()
    beside = beside.view(eights, ROWS, tiles, -1).transpose(1, 2).contiguous().view(torch.uint8)
    all_tiles = torch.cat([codes.permute(0, 2, 1, 5, 3, 6, 4).reshape(eights, tiles, -1),
                           beside.reshape(eights, tiles, -1)], -1)
    to[:, :all_tiles[0].numel()] = all_tiles.reshape(eights, -1)
