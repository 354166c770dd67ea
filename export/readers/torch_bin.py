"""Torch's pytorch_model.bin: a zip with a pickled dictionary of tensors and one stored entry per storage."""

import io
import zipfile
import zlib
from collections import namedtuple

from core.errors import UserError
from export.readers import state_dict, tensor_pickle
from export.stored import MAX_STRUCTURE_BYTES, NUMPY_TYPES, Source, StoredTensor, check_extents

STORAGES = {"FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
            "DoubleStorage": "float64", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
            "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool"}
LOCAL_HEADER_BYTES = 30
LITTLE = b"little"
NO_CHECKSUM = 0  # what torch.save writes as the CRC-32 where it was told to compute none
_Storage = namedtuple("_Storage", "dtype begin length")


class _Directory(io.RawIOBase):
    """A Source as the file that zipfile reads its directory from, in pieces of a bounded size."""

    def __init__(self, source):
        self._source, self._at = source, 0

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if self._at < 0:
            raise ValueError("a place before the file")
        return self._at

    def tell(self):
        return self._at

    def read(self, size=-1):
        left = max(0, self._source.size - self._at)
        size = left if size < 0 else min(size, left)
        if size > MAX_STRUCTURE_BYTES:
            raise UserError(f"{self._source.path} has a directory of {size} bytes, far more than a checkpoint's: "
                            "not a file of torch.save")
        raw = self._source.read(self._at, size).tobytes()
        self._at += size
        return raw


class _Tensor:
    """Stands for a tensor: a storage, and which of its values the tensor takes."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def _parameter(data, *_):
    return data


NAMES = {("torch._utils", "_rebuild_tensor_v2"): _Tensor, ("torch._utils", "_rebuild_parameter"): _parameter,
         ("collections", "OrderedDict"): tensor_pickle.StateDict,
         **{("torch", storage): kind for storage, kind in STORAGES.items()}}


def read(path):
    """Tensors of one file: name -> StoredTensor. Raises UserError for anything but tensors."""
    source = Source(path)
    try:
        with zipfile.ZipFile(_Directory(source)) as archive:
            entries = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, NotImplementedError, MemoryError, OverflowError):
        raise UserError(f"{path} is no complete zip archive: truncated, or saved by torch before 1.6") from None
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path} is a zip archive without data.pkl: not a file of torch.save")
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(root + "byteorder")
    if order is not None:
        begin, length = _place(source, order)
        if length != len(LITTLE) or source.read(begin, length).tobytes() != LITTLE:
            raise UserError(f"{path} is stored big-endian")

    def storage(identity):
        _, dtype, key, _, _ = identity
        if not isinstance(key, str):  # never made a text: what it holds could be endless
            raise TypeError
        return _Storage(dtype, *summed(f"{root}data/{key}"))

    def summed(entry):
        place = _place(source, entries[entry])
        if entries[entry].CRC != NO_CHECKSUM:
            source.checksums[place] = entries[entry].CRC
        return place

    begin, length = summed(pickles[0])
    saved = tensor_pickle.load(source, NAMES, begin, begin + length, storage)
    return check_extents(source, {name: _tensor(name, value, source)
                                  for name, value in state_dict.entries(path, saved)})


def _place(source, info):
    """Offset and length of an entry's data."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise UserError(f"{source.path} holds compressed or encrypted entries: not a file of torch.save")
    header = source.read(info.header_offset, LOCAL_HEADER_BYTES).tobytes()
    if header[:4] != b"PK\3\4":
        raise UserError(f"{source.path} is damaged: entry {info.filename[:100]!r} is not where the archive says")
    begin = (info.header_offset + LOCAL_HEADER_BYTES
             + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"))
    if begin + info.file_size > source.size:
        raise UserError(f"{source.path} is truncated: entry {info.filename[:100]!r} ends behind the file")
    return begin, info.file_size


def _tensor(name, value, source):
    if (not isinstance(value, _Tensor) or not isinstance(value.storage, _Storage)
            or value.storage.dtype not in STORAGES.values()
            or not isinstance(value.shape, tuple) or not isinstance(value.strides, tuple)
            or type(value.offset) is not int or value.offset < 0):
        raise UserError(f"{source.path}: entry {name[:200]!r} is not a tensor")
    dtype, begin, length = value.storage
    skipped = value.offset * int(NUMPY_TYPES[dtype][-1])
    if skipped > length:
        raise UserError(f"{source.path}: tensor {name[:200]!r} lies outside its storage")
    return StoredTensor.checked(name, source, begin + skipped, value.shape, dtype, length - skipped, value.strides)
