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
    """Bits of a code, columns of a row that share a scale (0: all of them), whether there are zero points."""

    bits: int
    group: int
    zeros: bool

    def groups(self, columns):
        """Groups of a row."""
        return columns // self.group if self.group else 1

    @property
    def description(self):
        group = f"groups of {self.group}" if self.group else "a scale a row"
        return f"{self.bits} bits, {group}{', zero points' if self.zeros else ''}"

    @classmethod
    def from_dict(cls, raw):
        """The inverse of dataclasses.asdict; raises ValueError, KeyError or TypeError for anything else."""
        made = cls(raw["bits"], raw["group"], raw["zeros"])
        if not is_one_of(made.bits, BITS) or not is_one_of(made.group, GROUPS) or not isinstance(made.zeros, bool):
            raise ValueError(f"quantised {raw}")
        return made


def half_scales(scales):
    """float32 scales, none negative -> the nearest above zero that float16 holds, as float32; 1 of zeros."""
    with np.errstate(over="ignore"):
        kept = np.minimum(scales, 65504).astype(np.float16).astype(np.float32)
    return np.where(scales == 0, np.float32(1), np.maximum(kept, np.float32(2.0 ** -24)))


def dequantised(codes):
    """Codes of whole numbers -> float32 [.., rows, columns], the exact products."""
    grouped = codes.codes.reshape(*codes.scales.shape, -1).astype(np.float32)
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
