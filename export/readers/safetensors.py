"""safetensors: an eight-byte length, a JSON header, the data."""

import json

from core.errors import UserError
from export.stored import MAX_STRUCTURE_BYTES, Source, StoredTensor

TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64", "I32": "int32",
         "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
         "F8_E4M3": "float8_e4m3fn"}


def read(path):
    """Tensors of one file: name -> StoredTensor. Raises UserError when the header does not describe the file."""
    source = Source(path)
    if source.size < 8:
        raise UserError(f"{path} is truncated: no safetensors header")
    length = int.from_bytes(source.read(0, 8).tobytes(), "little")
    if length > source.size - 8:
        raise UserError(f"{path} is truncated or no safetensors file: its header claims {length} bytes")
    if length > MAX_STRUCTURE_BYTES:
        raise UserError(f"{path} has a header of {length} bytes, far more than a checkpoint's: not a file of tensors")
    try:
        header = json.loads(source.read(8, length).tobytes())
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} has a damaged header ({type(e).__name__})") from None
    if not isinstance(header, dict):
        raise UserError(f"{path} has a damaged header (not a JSON object)")
    header.pop("__metadata__", None)

    start, tensors, spans = 8 + length, {}, []
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not isinstance(shape, list) or type(begin) is not int or type(end) is not int:
                raise TypeError
        except (TypeError, KeyError, ValueError):
            raise UserError(f"{path}: the header's entry {name[:200]!r} is damaged") from None
        if not 0 <= begin <= end <= source.size - start:
            raise UserError(f"{path}: tensor {name[:200]!r} lies outside its file: the file is truncated or damaged")
        kind = TYPES.get(dtype) if isinstance(dtype, str) else None
        tensor = StoredTensor.checked(name, source, start + begin, shape, kind or str(dtype), end - begin)
        if tensor.values * tensor.item_bytes != end - begin:
            raise UserError(f"{path}: tensor {name[:200]!r} has another size than its shape means")
        tensors[name] = tensor
        spans.append((begin, end, name))
    spans.sort()
    for (_, end, name), (begin, _, following) in zip(spans, spans[1:]):
        if begin < end:
            raise UserError(f"{path}: tensors {name[:200]!r} and {following[:200]!r} overlap")
    if max((end for _, end, _ in spans), default=0) != source.size - start:
        raise UserError(f"{path} is damaged: it holds more bytes than its header describes")
    return tensors
