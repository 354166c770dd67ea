"""int4 with scales and zero points for groups of 128 columns (ops/formats/int4)."""

from ops.formats.int4 import Int4

FORMAT = Int4(128, zero_points=True)
