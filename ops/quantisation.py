"""How matrices of a checkpoint were quantised: what its reader finds, an export keeps and a format is packed from."""

from dataclasses import dataclass

import numpy as np

from ops.formats.base import Codes

BITS, GROUPS = (4, 8), (0, 32, 64, 128)


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
        if made.bits not in BITS or made.group not in GROUPS or not isinstance(made.zeros, bool):
            raise ValueError(f"quantised {raw}")
        return made


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
