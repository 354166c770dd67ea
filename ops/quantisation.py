"""How matrices of a checkpoint were quantised: what its reader finds, an export keeps and a format is packed from."""

from dataclasses import dataclass

import numpy as np

from ops.formats.base import Codes

BITS, GROUPS = (4, 8), (0, 32, 64, 128)


def is_one_of(value, numbers):
    """Whether what a file says is one of these whole numbers: 4.0 and false, which equal some, are none."""
    return type(value) is int and value in numbers


@dataclass(frozen=True)
class Quantisation:
    """Bits of a code, columns of a row that share a scale (0: all of them), whether there are zero points, and whether
    a code is a floating number (e4m3)."""

    bits: int
    group: int
    zeros: bool
    floating: bool

    def groups(self, columns):
        """Groups of a row."""
        return columns // self.group if self.group else 1

    @property
    def description(self):
        group = f"groups of {self.group}" if self.group else "a scale a row"
        return f"{self.bits} bits{', e4m3' * self.floating}, {group}{', zero points' * self.zeros}"

    @property
    def types(self):
        """{array of Codes: its type in files}, of those that there are."""
        kinds = {"codes": "uint8", "scales": "float32"} if self.floating else {"codes": "int8", "scales": "float16"}
        return kinds | ({"zeros": "int8"} if self.zeros else {})

    @classmethod
    def from_dict(cls, raw):
        """The inverse of dataclasses.asdict; raises ValueError, KeyError or TypeError for anything else."""
        made = cls(raw["bits"], raw["group"], raw["zeros"], raw["floating"])
        known = is_one_of(made.bits, BITS) and is_one_of(made.group, GROUPS)
        if (not known or {type(made.zeros), type(made.floating)} != {bool}
                or made.floating and made != cls(8, 0, False, True)):
            raise ValueError(f"quantised {raw}")
        return made


def half_scales(scales):
    """float32 scales, none negative -> the nearest above zero that float16 holds, as float32; 1 of zeros."""
    with np.errstate(over="ignore"):
        kept = np.minimum(scales, 65504).astype(np.float16).astype(np.float32)
    return np.where(scales == 0, np.float32(1), np.maximum(kept, np.float32(2.0 ** -24)))


def e4m3(codes):
    """uint8, the bits of float8_e4m3fn, none of them NaN -> float32."""
    every = np.arange(128)
    exponent, mantissa = every >> 3, every & 7
    table = np.where(exponent > 0, np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(mantissa * 1.0, -9))
    return np.concatenate([table, -table]).astype(np.float32)[codes]


def dequantised(codes):
    """Codes -> float32 [.., rows, columns], the products, which are exact for float16 scales."""
    numbers = e4m3(codes.codes) if codes.codes.dtype == np.uint8 else codes.codes.astype(np.float32)
    grouped = numbers.reshape(*codes.scales.shape, -1)
    if codes.zeros is not None:
        grouped -= codes.zeros[..., None]
    grouped *= codes.scales[..., None].astype(np.float32)
    return grouped.reshape(codes.codes.shape)


def in_groups(codes, columns):
    """Codes whose groups are a whole number of groups of `columns` columns, with scales for those; None if they are
    not. columns: 0 for all of a row."""
    groups, have = codes.codes.shape[-1] // (columns or codes.codes.shape[-1]), codes.scales.shape[-1]
    if groups % have:
        return None
    return Codes(codes.codes, *(part if part is None else np.repeat(part, groups // have, -1)
                                for part in (codes.scales, codes.zeros)))
