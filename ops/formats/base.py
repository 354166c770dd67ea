"""What a weight format is, for Python: a folder beside this file, whose module has an object of one of these as FORMAT.

C++ has the same facts as a struct of traits (format.h), in that folder's format.h.
"""

import math
from dataclasses import dataclass

from ops.framework.tensors import upload


class Format:
    """Attributes: name (str), values (str: the type of an unpacked weight, in which products are done on a GPU), bits
    (of a weight, all counted but what whole rows have), description (as tables say it), extra (name of the tensor that
    it adds to each matrix, or "").
    """

    extra = ""

    def bytes(self, shape):
        """Of a tensor of weights [.., columns] and of what the format adds to it."""
        return math.prod(shape) * self.bits // 8


class Packed(Format):
    """Another way to keep matrices: each is a tensor of words i32 [.., rows, words of a row], and `extra` another.

    Words are of 32 bits, whatever they hold: Paddle 2.6.2 counts the values of an input that is bound in an int, which
    the bytes of the published model's largest tensor overflow ("Tensor's dimension is out of bound").
    """

    def is_usable(self, config, placement):
        """Whether the operators read it on a device, for a model of this ModelConfig's sizes."""
        raise NotImplementedError

    def pack(self, matrices):
        """numpy [.., rows, columns] of `values`' type -> [words] or [words, extra], the reference; None if it would
        lose any."""
        raise NotImplementedError

    def unpack(self, packed):
        """The inverse of `pack`."""
        raise NotImplementedError

    def packer(self, placement):
        """A Packer that puts its tensors there."""
        return Packer(self, placement)


@dataclass(frozen=True)
class Codes:
    """Quantised matrices as numbers, whatever the layout: what checkpoints are read to and formats are packed from.

    A weight is (codes[.., r, c] - zeros[.., r, g]) * scales[.., r, g] with g = c // (columns / groups).

    codes: [.., rows, columns], int8, or the bits of float8_e4m3fn as uint8. scales: [.., rows, groups] of float16 or
    float32, finite and positive. zeros: int8 of the same shape, or None where all are zero.
    """

    codes: object
    scales: object
    zeros: object = None


class Quantised(Packed):
    """A format that rounds: `pack` quantises, `pack_codes` keeps what was quantised elsewhere as it is.

    Attributes, besides: group (columns that share a scale, 0: all of a row), zero_points (bool: whether it holds any),
    code (NumPy's type of a code).
    """

    group, zero_points = 0, False

    @property
    def rounds_head(self):
        """Whether lm_head is rounded as well where one format is named for both: groups are for the decoder alone, as
        published 4-bit checkpoints have it."""
        return not self.group

    def quantise(self, matrices):
        """numpy [.., rows, columns] of floating numbers -> Codes, by the rule that the format's folder describes."""
        raise NotImplementedError

    def pack_codes(self, codes):
        """Codes -> [words] or [words, extra], no number changed; ValueError where the format cannot hold them."""
        raise NotImplementedError

    def codes(self, packed):
        """The inverse of `pack_codes`."""
        raise NotImplementedError

    def dequantise(self, codes):
        """Codes -> float32 [.., rows, columns], the exact products."""
        raise NotImplementedError

    def pack(self, matrices):
        return self.pack_codes(self.quantise(matrices))

    def unpack(self, packed):
        return self.dequantise(self.codes(packed))


class Packer:
    """Packs matrices one after the other, here by the format's reference on the CPU; `close` ends it."""

    def __init__(self, format, placement):
        self._format, self._placement = format, placement

    def pack(self, matrices):
        """Packed.pack's result as Paddle tensors on the device; None where that is None."""
        return self._uploaded(self._format.pack(matrices))

    def keep(self, codes):
        """The same of Quantised.pack_codes; ValueError where the format cannot hold them."""
        return self._uploaded(self._format.pack_codes(codes))

    def _uploaded(self, arrays):
        return arrays and [upload(array, self._placement) for array in arrays]

    def close(self):
        """Give back what was held for packing."""


class Plain(Format):
    """Numbers of one floating type as they are: what exports hold, and what activations and caches are.

    Attributes, besides: storage (NumPy's type of the same bits), infinity (its bits), limit (the largest number, as
    text), wider (a type with more range).
    """

    @property
    def bits(self):
        return 8 * self.storage.itemsize

    @property
    def values(self):
        return self.name

    @property
    def description(self):
        return self.name

    def is_infinite(self, array):
        """Where an array of `storage` holds an infinity."""
        return array.view(f"<u{self.storage.itemsize}") & ((1 << self.bits - 1) - 1) == self.infinity

    def pack(self, numbers):
        """float32 -> `storage`, to nearest even."""
        import numpy as np  # here, as doctor asks for sizes before there are packages

        with np.errstate(over="ignore"):
            return numbers.astype(self.storage, copy=False)

    def unpack(self, array):
        """`storage` -> float32, no copy where that is the same."""
        return array.astype("<f4", copy=False)
