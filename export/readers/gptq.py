"""Matrices in the layout of AutoGPTQ: four tensors each, which stand here for one, and what says so in small files.

A matrix [out, in] called X is

    X.qweight  int32 [in * bits / 32, out]      32 / bits neighbours along `in` a word, the first in the lowest bits
    X.qzeros   int32 [groups, out * bits / 32]  zero points less 1, neighbours along `out`; symmetric: 2^(bits-1) - 1
    X.scales   float16 [groups, out]
    X.g_idx    int32 [in]                       the group of each column, here always column // (in / groups)

and a weight is (code - zero point) * scale, code and zero point from 0 on. Each of these is looked at when a matrix is
read; what is otherwise ends in a line that names the tensor.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from export.names import listed
from export.stored import StoredTensor
from ops.formats.base import Codes
from ops.quantisation import BITS, GROUPS, Quantisation, dequantised, is_one_of

METHOD, QUANTIZE_CONFIG = "gptq", "quantize_config.json"
PARTS = ("qweight", "qzeros", "scales", "g_idx")
TYPES = {"qweight": "int32", "qzeros": "int32", "scales": "float16", "g_idx": "int32"}
PART = re.compile(rf"(.+)\.({'|'.join(PARTS)})")
ROW = -1   # what the layout's group_size says for all of a row
DEQUANTISED = (f" (weights that are dequantised already: take quantization_config out of config.json, and "
               f"{QUANTIZE_CONFIG} out of the folder)")
QUANTISED = re.compile(r"\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.w1|mlp\.w2|mlp\.c_proj)\.weight$")   # the decoder's
WHOLE_GROUPS = "has no whole groups of this size"
OTHERWISE = "take a checkpoint that was quantised {}, or the float16 one and WEIGHTS=int4"


def settings(entry, where):
    """(Quantisation, "") of what config.json or quantize_config.json says, or (None, why it is not read)."""
    bits, group, symmetric = (entry.get(name) for name in ("bits", "group_size", "sym"))
    wrong = [text for broken, text in (
        (not is_one_of(bits, BITS), f"bits {_shown(bits)} (read are 4 and 8)"),
        (not is_one_of(group, (*GROUPS[1:], ROW)), f"group_size {_shown(group)} (read are 32, 64, 128 and -1)"),
        (not isinstance(symmetric, bool), f"sym {_shown(symmetric)}"),
        (bits == 8 and symmetric is False, "sym False with 8 bits"),
        (entry.get("desc_act") is not False, f"desc_act {_shown(entry.get('desc_act'))} (columns in another order)"),
        (entry.get("checkpoint_format", METHOD) != METHOD, f"checkpoint_format {_shown(entry.get('checkpoint_format'))}"
                                                           f" (read is {METHOD!r})"),
        (entry.get("pack_dtype", "int32") != "int32", f"pack_dtype {_shown(entry.get('pack_dtype'))}"),
        (bool(entry.get("dynamic")), "dynamic, other settings for some matrices")) if broken]
    if wrong:
        return None, (f"{where} says what is not read of GPTQ: {'; '.join(wrong)}: "
                      f"{OTHERWISE.format('as docs/checkpoints.md says')}")
    return Quantisation(bits, 0 if group == ROW else group, not symmetric), ""


def _shown(value):
    return "is missing" if value is None else ascii(value)[:40]


@dataclass(frozen=True)
class QuantisedTensor:
    """A matrix [out, in] that a file holds as codes: `codes` gives them, what reads values gives the products.

    parts: {name of PARTS: StoredTensor}, of shapes that fit `shape`. Reading raises UserError where the layout's rules
    are broken.
    """

    name: str
    shape: tuple
    parts: dict
    quantised: Quantisation

    dtype = "float32"   # of what is read: products of a code and a float16 scale need more bits than that has
    in_order = False    # as they are needed, no place of the file holds them

    @property
    def values(self):
        return math.prod(self.shape)

    @property
    def item_bytes(self):
        """Of a value that is read."""
        return 4

    @property
    def stored(self):
        """The tensors that the file holds."""
        return tuple(self.parts.values())

    def check(self):
        """Raise UserError unless groups, scales and zero points are as the layout has them; reads no codes."""
        self._groups_in_order()
        self._scales()
        self._zeros()

    def codes(self):
        """Codes of the whole matrix, less 2^(bits-1) where there are no zero points."""
        return Codes(self.array("codes"), self.array("scales"), self.array("zeros") if self.quantised.zeros else None)

    def array(self, kind):
        """One of the arrays of `codes`, by its name there; reads no other."""
        if kind == "scales":
            return self._scales()
        if kind == "zeros":
            return self._zeros()
        self._groups_in_order()
        codes = _unpacked(self.parts["qweight"].read(), self.quantised.bits, axis=0)
        offset = 0 if self.quantised.zeros else 1 << self.quantised.bits - 1
        return np.ascontiguousarray((codes - np.uint8(offset)).T).view(np.int8)

    def read(self):
        """float32 [out, in], the exact products."""
        return dequantised(self.codes())

    def rows(self, first, last):
        return self.read()[first:last]

    def blocks(self):
        yield self.read()

    def _fault(self, part, text):
        tensor = self.parts[part]
        return UserError(f"{tensor.source.path}: tensor {tensor.name[:200]!r} {text}")

    def _groups_in_order(self):
        found, columns = self.parts["g_idx"].read(), self.shape[1]
        groups = self.quantised.groups(columns)
        if found.min() < 0 or found.max() >= groups:
            raise self._fault("g_idx", f"names groups from {found.min()} to {found.max()}, there are {groups}: "
                                       "download the file again")
        if (found != np.arange(columns) // (columns // groups)).any():
            raise self._fault("g_idx", f"has columns in another order (desc_act): "
                                       f"{OTHERWISE.format('with desc_act = false')}")

    def _scales(self):
        """float16 [out, groups]."""
        scales = self.parts["scales"].read()
        if not (scales > 0).all():
            raise self._fault("scales", f"holds {(scales <= 0).sum()} scales that are zero or negative: download the "
                                        "file again")
        return np.ascontiguousarray(scales.T)

    def _zeros(self):
        """int8 [out, groups]; None where all are in the middle."""
        bits = self.quantised.bits
        stored, top = _unpacked(self.parts["qzeros"].read(), bits, axis=1), (1 << bits) - 1
        if self.quantised.zeros:
            if (stored == top).any():
                raise self._fault("qzeros", f"holds the zero point {top} + 1, which programs read differently: "
                                            f"{OTHERWISE.format('with sym = true')}")
            return np.ascontiguousarray((stored + np.uint8(1)).T).view(np.int8)
        middle = top >> 1
        if (other := stored != middle).any():
            raise self._fault("qzeros", f"holds {stored[other][0]} where symmetric weights have {middle}: this is "
                                        "another version of the layout, or not symmetric")
        return None


def _unpacked(words, bits, axis):
    """int32 words, 32 / bits codes each along `axis`, as uint8 codes with that axis longer."""
    octets = np.moveaxis(np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4), -1, axis + 1)
    if bits == 4:
        octets = np.stack([octets & 15, octets >> 4], axis + 2)
    shape = list(words.shape)
    shape[axis] *= 32 // bits
    return octets.reshape(shape)


def join(stored, unread, found, parameters):
    """(tensors, unread, faults): the four tensors of each matrix as one QuantisedTensor called X.weight.

    stored, unread: names -> StoredTensor and names, as the model is published. found: the checkpoint's Quantisation.
    parameters: {name: shape} of all that the model has, matrices [out, in]. faults: a text for each kind of mismatch,
    with the names. Biases that AutoGPTQ gives to matrices which have none are left out where they are zero.
    """
    split, rest = {}, {}
    for name, tensor in stored.items():
        if match := PART.fullmatch(name):
            split.setdefault(match[1], {})[match[2]] = tensor
        else:
            rest[name] = tensor
    missed = {match[1] for name in unread if (match := PART.fullmatch(name))}
    unread = {*(name for name in unread if not PART.fullmatch(name)), *(f"{matrix}.weight" for matrix in missed)}
    lacking, wrong = [], []
    for matrix, parts in split.items():
        name, bias = f"{matrix}.weight", f"{matrix}.bias"
        if not QUANTISED.search(name) or name not in parameters:
            rest.update((f"{matrix}.{part}", tensor) for part, tensor in parts.items())   # nothing expects them
        elif matrix not in missed:
            lacking += [f"{matrix}.{part}" for part in PARTS if part not in parts]
            wrong += _mismatches(parts, part_shapes(parameters[name], found))
            rest[name] = QuantisedTensor(name, parameters[name], parts, found)
        if bias in rest and name in parameters and bias not in parameters and _is_zero(rest[bias], parameters[name][0]):
            del rest[bias]
    plain = [name for name, tensor in rest.items() if QUANTISED.search(name) and isinstance(tensor, StoredTensor)]
    return rest, unread, [f"{len(names)} {what}: {listed(names)}{remedy}" for what, names, remedy in (
        ("parts of quantised matrices missing", lacking, ""), ("not as GPTQ stores it", wrong, ""),
        ("matrices not quantised, which all of the decoder's must be", plain, DEQUANTISED)) if names]


def _is_zero(tensor, rows):
    return tensor.dtype == "float16" and tensor.shape == (rows,) and not tensor.read().any()


def part_shapes(shape, found):
    """{part: its shape} of a matrix [out, in]; None where the groups do not divide it."""
    rows, columns = shape
    width, group = 32 // found.bits, found.group or columns
    if columns % group or columns % width or rows % width:
        return None
    groups = columns // group
    return {"qweight": (columns // width, rows), "qzeros": (groups, rows // width), "scales": (groups, rows),
            "g_idx": (columns,)}


def _mismatches(parts, shapes):
    if shapes is None:
        return [f"{next(iter(parts.values())).name} of a matrix that {WHOLE_GROUPS}"]
    return [f"{tensor.name} {tensor.dtype} {list(tensor.shape)} instead of {TYPES[part]} {list(shapes[part])}"
            for part, tensor in parts.items() if (tensor.dtype, tensor.shape) != (TYPES[part], shapes[part])]


def entry(found):
    """What a config says of a checkpoint that was quantised so."""
    return {"bits": found.bits, "group_size": found.group or ROW, "sym": not found.zeros, "desc_act": False,
            "static_groups": False, "true_sequential": True, "damp_percent": 0.01, "checkpoint_format": METHOD,
            "quant_method": METHOD}


def parts_of(codes, bits):
    """{part: array} of symmetric Codes of a matrix: the inverse of reading them."""
    rows, columns = codes.codes.shape
    groups, half = codes.scales.shape[1], 1 << bits - 1
    zeros = np.full((groups, rows), half - 1, np.uint8)
    return {"qweight": _packed((codes.codes.view(np.uint8) + np.uint8(half) & (1 << bits) - 1).T, bits, axis=0),
            "qzeros": _packed(zeros, bits, axis=1), "scales": np.ascontiguousarray(codes.scales.T),
            "g_idx": (np.arange(columns) // (columns // groups)).astype(np.int32)}


def _packed(codes, bits, axis):
    """The inverse of `_unpacked`."""
    width, shape = 32 // bits, list(codes.shape)
    shape[axis:axis + 1] = [shape[axis] // width, width]
    places = np.moveaxis(codes.reshape(shape), axis + 1, -1).astype(np.uint32) << np.arange(0, 32, bits, np.uint32)
    return np.bitwise_or.reduce(places, -1).view(np.int32)
