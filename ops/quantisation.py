"""How matrices of a checkpoint were quantised: what its reader finds, an export keeps and a format is packed from."""

from dataclasses import dataclass

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
