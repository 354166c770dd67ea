"""Matrices that a checkpoint holds as codes: what the layouts of other programs have in common.

In each of them a matrix [out, in] called X is several tensors, X.<part>, which stand here for one, and an entry of
config.json or a file beside it says how they are meant. Each rule of a layout is looked at when a matrix is read; what
is otherwise ends in a line that names the tensor. Numbers are kept as they are.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from export.names import listed
from export.stored import StoredTensor
from ops.formats.base import Codes
from ops.quantisation import Quantisation, dequantised

QUANTISED = re.compile(r"\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.w1|mlp\.w2|mlp\.c_proj)\.weight$")   # the decoder's
WHOLE_GROUPS = "has no whole groups of this size"
ROW = -1   # what layouts' group_size says for all of a row


@dataclass(frozen=True)
class QuantisedTensor:
    """A matrix [out, in] that a file holds as codes: `codes` gives them, what reads values gives the products.

    parts: {name: StoredTensor} of the layout's parts, of the types and shapes that it has for `shape`. Reading raises
    UserError where the layout's rules are broken. A layout adds `_codes`, `_scales` and `_zeros`, the arrays of Codes.
    """

    name: str
    shape: tuple
    parts: dict
    quantised: Quantisation
    otherwise: str   # the remedy where a rule is broken, with {} for what should be otherwise

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
        """Raise UserError unless what belongs to the codes is as the layout has it; reads no codes."""
        self._scales()
        self._zeros()

    def codes(self):
        """Codes of the whole matrix, less 2^(bits-1) where they are whole numbers without zero points."""
        return Codes(*(self.array(kind) for kind in ("codes", "scales", "zeros")))

    def array(self, kind):
        """One of the arrays of `codes`, by its name there; reads no other."""
        return {"codes": self._codes, "scales": self._scales, "zeros": self._zeros}[kind]()

    def read(self):
        """float32 [out, in], the products."""
        return dequantised(self.codes())

    def rows(self, first, last):
        return self.read()[first:last]

    def blocks(self):
        yield self.read()

    def fault(self, part, text):
        """A UserError that names the tensor."""
        tensor = self.parts[part]
        return UserError(f"{tensor.source.path}: tensor {tensor.name[:200]!r} {text}")

    def above_zero(self, part, scales):
        """`scales`, a part's values, after checking that they are above zero."""
        if not (scales > 0).all():
            raise self.fault(part, f"holds {(scales <= 0).sum()} scales that are zero or negative: download the file "
                                   "again")
        return scales


@dataclass(frozen=True)
class Layout:
    """How a checkpoint's files hold its decoder's matrices.

    A layout adds METHOD (what a config's quant_method says), TITLE (as people call it), BESIDE (a file that says the
    same as config.json's entry, "" if there is none), ROUNDED (the format here that comes nearest), TYPES ({part: its
    types}), TENSOR (a QuantisedTensor), `settings` and `part_shapes`. One that is written, too, has `entry` and
    `parts_of`.
    """

    quantised: Quantisation

    @classmethod
    def settings(cls, entry, where):
        """(Layout, "") of what a config says, which `where` names, or (None, why it is not read)."""
        raise NotImplementedError

    def part_shapes(self, shape):
        """{part: its shape} of a matrix [out, in]; None where groups or words do not fill it."""
        raise NotImplementedError

    @classmethod
    def otherwise(cls, how="{}"):
        """What to do about a checkpoint that should have been quantised otherwise."""
        return f"take a checkpoint that was quantised {how}, or the float16 one and WEIGHTS={cls.ROUNDED}"

    @classmethod
    def refused(cls, where, wrong):
        """The second of what `settings` gives, for [(whether it is so, what is said of it)]; "" where none is."""
        said = "; ".join(text for broken, text in wrong if broken)
        return said and (f"{where} says what is not read of {cls.TITLE}: {said}: "
                         f"{cls.otherwise('as docs/checkpoints.md says')}")

    def stored_as(self, part, tensor):
        """A part as the layout has it, where converted files cannot."""
        return tensor

    def join(self, stored, unread, parameters):
        """(tensors, unread, faults): the parts of each matrix as one QuantisedTensor called X.weight.

        stored, unread: names -> StoredTensor and names, as the model is published. parameters: {name: shape} of all
        that the model has, matrices [out, in]. faults: a text for each kind of mismatch, with the names. Biases that
        some programs give to matrices which have none are left out where they are zero.
        """
        split, rest, pattern = {}, {}, re.compile(rf"(.+)\.({'|'.join(self.TYPES)})")
        for name, tensor in stored.items():
            match = pattern.fullmatch(name)
            if match and f"{match[1]}.weight" in parameters and QUANTISED.search(f"{match[1]}.weight"):
                split.setdefault(match[1], {})[match[2]] = self.stored_as(match[2], tensor)
            else:
                rest[name] = tensor   # nothing expects it, if it is a part
        missed = {match[1] for name in unread if (match := pattern.fullmatch(name))}
        unread = {*(name for name in unread if not pattern.fullmatch(name)), *(f"{matrix}.weight" for matrix in missed)}
        lacking, wrong = [], []
        for matrix, parts in split.items():
            name = f"{matrix}.weight"
            if parts.keys() == {"weight"} and parts["weight"].dtype not in self.TYPES.get("weight", ()):
                rest[name] = parts["weight"]
            elif matrix not in missed:
                lacking += [f"{matrix}.{part}" for part in self.TYPES if part not in parts]
                wrong += self._mismatches(parts, self.part_shapes(parameters[name]))
                rest[name] = self.TENSOR(name, parameters[name], parts, self.quantised, self.otherwise())
        for name in [name for name in rest if name.endswith(".bias") and name not in parameters]:
            matrix = f"{name.removesuffix('bias')}weight"
            if QUANTISED.search(matrix) and matrix in parameters and _is_zero(rest[name], parameters[matrix][0]):
                del rest[name]
        plain = [name for name, tensor in rest.items() if QUANTISED.search(name) and isinstance(tensor, StoredTensor)]
        beside = f", and {self.BESIDE} out of the folder" if self.BESIDE else ""
        return rest, unread, [f"{len(names)} {what}: {listed(names)}{remedy}" for what, names, remedy in (
            ("parts of quantised matrices missing", lacking, ""), (f"not as {self.TITLE} stores it", wrong, ""),
            ("matrices not quantised, which all of the decoder's must be", plain,
             f" (weights that are dequantised already: take quantization_config out of config.json{beside})")) if names]

    def _mismatches(self, parts, shapes):
        if shapes is None:
            return [f"{next(iter(parts.values())).name} of a matrix that {WHOLE_GROUPS}"]
        return [f"{tensor.name} {tensor.dtype} {list(tensor.shape)} instead of {' or '.join(self.TYPES[part])} "
                f"{list(shapes[part])}" for part, tensor in parts.items()
                if tensor.dtype not in self.TYPES[part] or tensor.shape != shapes[part]]


def _is_zero(tensor, rows):
    return tensor.dtype == "float16" and tensor.shape == (rows,) and not tensor.read().any()


def shown(value):
    """What a config says, as messages have it."""
    return "is missing" if value is None else ascii(value)[:40]


def unpacked(words, bits, axis):
    """int32 words, 32 / bits codes each along `axis`, the first in the lowest bits, as uint8 codes with that axis
    longer."""
    octets = np.moveaxis(np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4), -1, axis + 1)
    if bits == 4:
        octets = np.stack([octets & 15, octets >> 4], axis + 2)
    shape = list(words.shape)
    shape[axis] *= 32 // bits
    return octets.reshape(shape)


def packed(codes, bits, axis):
    """The inverse of `unpacked`."""
    width, shape = 32 // bits, list(codes.shape)
    shape[axis:axis + 1] = [shape[axis] // width, width]
    places = np.moveaxis(codes.reshape(shape), axis + 1, -1).astype(np.uint32) << np.arange(0, 32, bits, np.uint32)
    return np.bitwise_or.reduce(places, -1).view(np.int32)
