"""A tensor that stays in its file: where its bytes lie, and how to read some of them."""

import dataclasses
import math
import mmap
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from core.errors import UserError
from ops import formats

BLOCK_BYTES = 32 << 20
CHECKED_BYTES = 1 << 20  # at once, for a checksum: what a processor's cache holds
MAX_STRUCTURE_BYTES = 8 << 20  # what describes the tensors of one file; a 7B checkpoint's is below 1 MiB
MAX_DIMENSIONS = 8
MAX_SHARING = 2      # how often a file's bytes may be used on average: two tensors that are tied share theirs
MAX_VALUES = 1 << 48  # far above any tensor; NumPy refuses larger shapes even where they hold nothing
NUMPY_TYPES = {
    **{name: kept.storage.str for name, kept in formats.plain().items()}, "float64": "<f8", "int64": "<i8",
    "int32": "<i4", "int16": "<i2", "int8": "|i1", "uint8": "|u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8",
    "bool": "|b1", "float8_e4m3fn": "|u1",
}
INFINITY = {name: format.infinity for name, format in formats.plain().items()}  # its bits; those of a NaN are larger
NOT_FINITE = {**INFINITY, "float8_e4m3fn": 0x7F}   # the least bits of such a magnitude


class Source:
    """An open regular file, read by position.

    Reading by pread keeps a model of any size out of this process's memory; a mapped file would count as resident, so
    only weights that stay in memory as they are in the file are mapped.
    """

    def __init__(self, path):
        self.path = str(path)
        try:  # without O_NONBLOCK a named pipe would wait for its writer
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as e:
            raise UserError(f"cannot open {path}: {e.strerror}") from None
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            self._fd = -1
            raise UserError(f"{path} is not a regular file")
        self.size = status.st_size
        self.checksums = {}  # (offset, length) -> CRC-32 of these bytes, where the file says it
        self._mapping = None

    def __del__(self):
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    def read(self, offset, length):
        """`length` bytes at `offset` as a uint8 array; raises UserError when the file ends before."""
        self._check_place(offset, length)
        buffer = np.empty(length, np.uint8)
        view, done = memoryview(buffer), 0
        while done < length:
            count = os.preadv(self._fd, [view[done:done + (1 << 30)]], offset + done)
            if count == 0:
                raise UserError(f"{self.path} became shorter while it was read")
            done += count
        return buffer

    def map(self, offset, length):
        """The same bytes as `read` gives, as a private mapping of the file, which may be written to."""
        self._check_place(offset, length)
        self._mapping = self._mapping or mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY)
        return np.frombuffer(self._mapping, np.uint8, length, offset)

    def differing(self, advance=lambda count: None):
        """The places of `checksums` whose bytes have another one, sorted; reads all of them, several at once.

        `advance` hears of the bytes read. Raises UserError where places overlap: reading them could take forever.
        """
        if sum(length for _, length in self.checksums) > self.size:
            raise UserError(f"{self.path} has entries that share their bytes: not a file of weights")

        def differs(place):
            offset, length = place
            crc = 0
            for begin in range(offset, offset + length, CHECKED_BYTES):
                block = self.read(begin, min(CHECKED_BYTES, offset + length - begin))
                crc = zlib.crc32(block, crc)
                advance(len(block))
            return crc != self.checksums[place]

        places = sorted(self.checksums)
        with ThreadPoolExecutor(max_workers=4) as pool:
            return [place for place, wrong in zip(places, pool.map(differs, places)) if wrong]

    def _check_place(self, offset, length):
        if offset < 0 or length < 0 or offset + length > self.size:
            raise UserError(f"{self.path} is truncated: it ends at byte {self.size}, {offset + length} were announced")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor inside a file, under the `name` that it has there. `strides` count values; `dtype` is a name such as
    "bfloat16". Whatever reads values raises UserError where one is NaN or infinite.
    """

    name: str
    source: Source
    offset: int
    shape: tuple
    strides: tuple
    dtype: str

    @classmethod
    def checked(cls, name, source, offset, shape, dtype, available, strides=None, columns_first=False):
        """Build after checking that the shape fits the `available` bytes at `offset`; raises UserError.

        Without `strides` the values lie row after row, or column after column where `columns_first` is true.
        """
        where = f"{source.path}: tensor {name[:200]!r}"
        parts = [shape] if strides is None else [shape, strides]
        if (any(len(part) > MAX_DIMENSIONS or len(part) != len(shape) for part in parts)
                or any(type(n) is not int or not 0 <= n <= MAX_VALUES for part in parts for n in part)
                or math.prod(max(n, 1) for n in shape) > MAX_VALUES):
            raise UserError(f"{where} has an impossible shape")
        if dtype not in NUMPY_TYPES:
            raise UserError(f"{where} has the unknown type {str(dtype)[:40]!r}")
        if strides is None:
            strides = contiguous_strides(shape[::-1])[::-1] if columns_first else contiguous_strides(shape)
        tensor = cls(name, source, offset, tuple(shape), tuple(strides), dtype)
        used = max(tensor.values, tensor._extent) * tensor.item_bytes
        if used > available or offset < 0 or offset + available > source.size:
            raise UserError(f"{where} lies outside its file: the file is truncated or damaged")
        return tensor

    @property
    def values(self):
        return math.prod(self.shape)

    @property
    def item_bytes(self):
        return np.dtype(NUMPY_TYPES[self.dtype]).itemsize

    @property
    def stored(self):
        """The tensors that the file holds for it: this one."""
        return (self,)

    def check(self):
        """Raise UserError for what only reading shows of what belongs to the values: nothing does here."""

    @property
    def _extent(self):
        """Values from the first to the last one used."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides)) if self.values else 0

    @property
    def transposed(self):
        """The same bytes with the axes in reverse order."""
        return dataclasses.replace(self, shape=self.shape[::-1], strides=self.strides[::-1])

    @property
    def in_order(self):
        """Whether the file holds the values row after row."""
        return self.strides == contiguous_strides(self.shape)

    def read(self):
        """The whole tensor; contiguous unless the file stores it in another order."""
        return self._array(self.source.read)

    def map(self):
        """The same without a copy, in a private mapping of the file; a copy where its place there is not aligned."""
        aligned = self.offset % self.item_bytes == 0 and self.values
        return self._array(self.source.map if aligned else self.source.read)

    def _array(self, take):
        raw = take(self.offset, self._extent * self.item_bytes).view(NUMPY_TYPES[self.dtype])
        array = raw.reshape(self.shape) if self.in_order else np.lib.stride_tricks.as_strided(
            raw, self.shape, [s * self.item_bytes for s in self.strides])
        if self.dtype in NOT_FINITE and self.values:
            # what lies between the values of a part of a larger tensor is not this tensor's
            self._check_finite(raw if self._extent <= self.values else np.ascontiguousarray(array))
        return array

    def _check_finite(self, values):
        """Raise UserError when one of the contiguous `values` is not finite.

        As integers, positive values that are not finite are the largest signed ones, negative the largest unsigned
        ones: two passes over memory, nothing allocated.
        """
        bits, least = 8 * self.item_bytes, NOT_FINITE[self.dtype]
        if (values.view(f"<i{self.item_bytes}").max() >= least
                or values.view(f"<u{self.item_bytes}").max() >= least | 1 << bits - 1):
            magnitude = values.view(f"<u{self.item_bytes}") & ((1 << bits - 1) - 1)
            kind = "infinity" if magnitude.max() == INFINITY.get(self.dtype) else "NaN"
            found = f"{(magnitude >= least).sum()} of {values.size} values looked at"
            raise UserError(f"{self.source.path}: tensor {self.name[:200]!r} holds {kind} ({found}): download the file "
                            "again; if that does not help, its training has diverged: use an earlier checkpoint")

    def rows(self, first, last):
        """Rows first..last of the leading axis, contiguous; reads the whole tensor if it is stored in another order."""
        if not self.in_order:
            return np.ascontiguousarray(self.read()[first:last])
        row = math.prod(self.shape[1:])
        part = dataclasses.replace(self, offset=self.offset + first * row * self.item_bytes,
                                   shape=(last - first, *self.shape[1:]))
        return part.read()

    def blocks(self):
        """Yield contiguous blocks of rows of about 32 MiB, in order."""
        if not self.shape:
            yield self.read()
            return
        step = max(1, BLOCK_BYTES // max(1, math.prod(self.shape[1:]) * self.item_bytes))
        all_rows = None if self.in_order else self.read()
        for first in range(0, self.shape[0], step):
            last = min(first + step, self.shape[0])
            yield self.rows(first, last) if self.in_order else np.ascontiguousarray(all_rows[first:last])


def contiguous_strides(shape):
    """Strides in values of a tensor stored row after row."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def check_extents(source, tensors):
    """`tensors` (name -> StoredTensor) of one file, after checking that they are not far more than the file holds.

    Tensors may share bytes, but a small file must not stand for weights that fill a disk. Raises UserError.
    """
    described = sum(tensor.values * tensor.item_bytes for tensor in tensors.values())
    if described > MAX_SHARING * source.size:
        raise UserError(f"{source.path} describes {described} bytes of tensors in {source.size}: they are the same "
                        "bytes again and again, which no weights are")
    return tensors
