"""int4 with scales and zero points for groups of 64 columns (ops/formats/int4)."""

from ops.formats.int4 import Int4

FORMAT = Int4(64, zero_points=True)
