"""AutoGPTQ's layout of quantised matrices (export/readers/quantised.py): whole numbers of 4 or 8 bits in groups.

A matrix [out, in] called X is

    X.qweight  int32 [in * bits / 32, out]      32 / bits neighbours along `in` a word, the first in the lowest bits
    X.qzeros   int32 [groups, out * bits / 32]  zero points less 1, neighbours along `out`; symmetric: 2^(bits-1) - 1
    X.scales   float16 [groups, out]
    X.g_idx    int32 [in]                       the group of each column, here always column // (in / groups)

and a weight is (code - zero point) * scale, code and zero point from 0 on.
"""

import numpy as np

from export.readers.quantised import ROW, Layout, QuantisedTensor, packed, shown, unpacked
from ops.quantisation import BITS, GROUPS, Quantisation, is_one_of

METHOD = "gptq"


class GptqTensor(QuantisedTensor):

    def check(self):
        self._groups_in_order()
        super().check()

    def _codes(self):
        self._groups_in_order()
        codes = unpacked(self.parts["qweight"].read(), self.quantised.bits, axis=0)
        offset = 0 if self.quantised.zeros else 1 << self.quantised.bits - 1
        return np.ascontiguousarray((codes - np.uint8(offset)).T).view(np.int8)

    def _groups_in_order(self):
        found, columns = self.parts["g_idx"].read(), self.shape[1]
        groups = self.quantised.groups(columns)
        if found.min() < 0 or found.max() >= groups:
            raise self.fault("g_idx", f"names groups from {found.min()} to {found.max()}, there are {groups}: download "
                                      "the file again")
        if (found != np.arange(columns) // (columns // groups)).any():
            raise self.fault("g_idx", f"has columns in another order (desc_act): "
                                      f"{self.otherwise.format('with desc_act = false')}")

    def _scales(self):
        """float16 [out, groups]."""
        return np.ascontiguousarray(self.above_zero("scales", self.parts["scales"].read()).T)

    def _zeros(self):
        """int8 [out, groups]; None where all are in the middle."""
        bits = self.quantised.bits
        stored, top = unpacked(self.parts["qzeros"].read(), bits, axis=1), (1 << bits) - 1
        if self.quantised.zeros:
            if (stored == top).any():
                raise self.fault("qzeros", f"holds the zero point {top} + 1, which programs read differently: "
                                           f"{self.otherwise.format('with sym = true')}")
            return np.ascontiguousarray((stored + np.uint8(1)).T).view(np.int8)
        middle = top >> 1
        if (other := stored != middle).any():
            raise self.fault("qzeros", f"holds {stored[other][0]} where symmetric weights have {middle}: this is "
                                       "another version of the layout, or not symmetric")
        return None


class Gptq(Layout):
    METHOD, TITLE, BESIDE, ROUNDED = METHOD, "GPTQ", "quantize_config.json", "int4"
    TYPES = {"qweight": ("int32",), "qzeros": ("int32",), "scales": ("float16",), "g_idx": ("int32",)}
    TENSOR = GptqTensor

    @classmethod
    def settings(cls, entry, where):
        bits, group, symmetric = (entry.get(name) for name in ("bits", "group_size", "sym"))
        version = entry.get("checkpoint_format", METHOD)
        if said := cls.refused(where, (
                (not is_one_of(bits, BITS), f"bits {shown(bits)} (read are 4 and 8)"),
                (not is_one_of(group, (*GROUPS[1:], ROW)), f"group_size {shown(group)} (read are 32, 64, 128 and -1)"),
                (not isinstance(symmetric, bool), f"sym {shown(symmetric)}"),
                (bits == 8 and symmetric is False, "sym False with 8 bits"),
                (entry.get("desc_act") is not False, f"desc_act {shown(entry.get('desc_act'))} (columns in another "
                                                     "order)"),
                (version != METHOD, f"checkpoint_format {shown(version)} (read is {METHOD!r})"),
                (entry.get("pack_dtype", "int32") != "int32", f"pack_dtype {shown(entry.get('pack_dtype'))}"),
                (bool(entry.get("dynamic")), "dynamic, other settings for some matrices"))):
            return None, said
        return cls(Quantisation(bits, 0 if group == ROW else group, not symmetric, False)), ""

    def part_shapes(self, shape):
        rows, columns = shape
        width, group = 32 // self.quantised.bits, self.quantised.group or columns
        if columns % group or columns % width or rows % width:
            return None
        groups = columns // group
        return {"qweight": (columns // width, rows), "qzeros": (groups, rows // width), "scales": (groups, rows),
                "g_idx": (columns,)}

    def entry(self):
        """What a config says of a checkpoint that was quantised so."""
        return {"bits": self.quantised.bits, "group_size": self.quantised.group or ROW,
                "sym": not self.quantised.zeros, "desc_act": False, "static_groups": False, "true_sequential": True,
                "damp_percent": 0.01, "checkpoint_format": METHOD, "quant_method": METHOD}

    def parts_of(self, codes):
        """{part: array} of symmetric Codes of a matrix: the inverse of reading them."""
        bits, (rows, columns) = self.quantised.bits, codes.codes.shape
        groups, half = codes.scales.shape[1], 1 << bits - 1
        zeros = np.full((groups, rows), half - 1, np.uint8)
        return {"qweight": packed((codes.codes.view(np.uint8) + np.uint8(half) & (1 << bits) - 1).T, bits, axis=0),
                "qzeros": packed(zeros, bits, axis=1), "scales": np.ascontiguousarray(codes.scales.T),
                "g_idx": (np.arange(columns) // (columns // groups)).astype(np.int32)}
