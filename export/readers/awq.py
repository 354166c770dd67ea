"""AutoAWQ's layout of quantised matrices in its version GEMM (export/readers/quantised.py): 4 bits in groups, with zero
points.

A matrix [out, in] called X is

    X.qweight  int32 [in, out / 8]      codes of eight neighbours along `out` a word
    X.qzeros   int32 [groups, out / 8]  zero points in the same order
    X.scales   float16 [groups, out]

and a weight is (code - zero point) * scale, code and zero point from 0 to 15. From the lowest bits of a word on, its
neighbours are those of ORDER.
"""

import numpy as np

from export.readers.quantised import ROW, Layout, QuantisedTensor, shown, unpacked
from ops.quantisation import GROUPS, Quantisation, is_one_of

METHOD, BITS, VERSION = "awq", 4, "gemm"
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


class AwqTensor(QuantisedTensor):

    def _codes(self):
        return self._unpacked("qweight")

    def _scales(self):
        """float16 [out, groups]."""
        return np.ascontiguousarray(self.above_zero("scales", self.parts["scales"].read()).T)

    def _zeros(self):
        return self._unpacked("qzeros")

    def _unpacked(self, part):
        """int8 [out, ..] of words [.., out / 8]."""
        in_words = unpacked(self.parts[part].read(), BITS, axis=1).reshape(-1, self.shape[0] // len(ORDER), len(ORDER))
        numbers = np.empty_like(in_words)
        numbers[..., ORDER] = in_words
        return np.ascontiguousarray(numbers.reshape(len(numbers), -1).T).view(np.int8)


class Awq(Layout):
    METHOD, TITLE, BESIDE, ROUNDED = METHOD, "AWQ", "quant_config.json", "int4"
    TYPES = {"qweight": ("int32",), "qzeros": ("int32",), "scales": ("float16",)}
    TENSOR = AwqTensor

    @classmethod
    def settings(cls, entry, where):
        bits, group = (entry.get(name, entry.get(older)) for name, older in (("bits", "w_bit"),
                                                                             ("group_size", "q_group_size")))
        version = entry.get("version")
        said = cls.refused(where, (
            (not is_one_of(bits, (BITS,)), f"bits {shown(bits)} (read are {BITS})"),
            (not is_one_of(group, (*GROUPS[1:], ROW)), f"group_size {shown(group)} (read are 32, 64, 128 and -1)"),
            (entry.get("zero_point") is not True, f"zero_point {shown(entry.get('zero_point'))}"),
            (str(version).lower() != VERSION, f"version {shown(version)} (read is {VERSION!r})")))
        return (None, said) if said else (cls(Quantisation(BITS, 0 if group == ROW else group, True, False)), "")

    def part_shapes(self, shape):
        rows, columns = shape
        group = self.quantised.group or columns
        if columns % group or rows % len(ORDER):
            return None
        return {"qweight": (columns, rows // len(ORDER)), "qzeros": (columns // group, rows // len(ORDER)),
                "scales": (columns // group, rows)}
