"""A checkpoint of the published geometry, names and shards as sparse files: real headers, no values."""

import json
import math
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from core.config import ModelConfig
from export import names
from export.pdparams_writer import Writer
from export.vocabulary import write_vocabulary

CONFIG = json.loads((Path(names.__file__).parent / "presets" / "7b.json").read_text())
SHARDS = 10
BUFFER = "transformer.rotary_emb.inv_freq"


def tensors(config):
    """name -> (type, shape) as the published files hold them: the weights and one buffer."""
    entries = {p.name: ("BF16", p.shape) for p in names.parameters(config)}
    return {**entries, BUFFER: ("F32", (config.kv_channels // 2,))}


def size_of(kind, shape):
    return math.prod(shape) * {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}[kind]


def shards_of(entries):
    """The tensors in order, cut into SHARDS parts of about equal size."""
    total = sum(size_of(*entry) for entry in entries.values())
    parts, done = [{} for _ in range(SHARDS)], 0
    for name, entry in entries.items():
        parts[min(SHARDS - 1, done * SHARDS // total)][name] = entry
        done += size_of(*entry)
    return parts


class SparseFile:
    """A file in which tensors' bytes become holes: large writes only move the position."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        if len(data) < 4096:
            self._file.write(data)
        else:
            self._file.seek(len(data), 1)


def write_safetensors(path, entries):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, shape) in entries.items():
        size = size_of(kind, shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with open(path, "r+b") as file:
        file.truncate(8 + len(text) + offset)


def state_dict_pickle(entries):
    """data.pkl as torch.save writes it, one storage per tensor."""
    def text(value):
        return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()

    def numbers(values):
        return pickle.MARK + b"".join(pickle.BININT + struct.pack("<i", n) for n in values) + pickle.TUPLE

    storages = {"F32": b"ctorch\nFloatStorage\n", "BF16": b"ctorch\nBFloat16Storage\n", "F16": b"ctorch\nHalfStorage\n",
                "I8": b"ctorch\nCharStorage\n"}
    out = pickle.PROTO + b"\2" + b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.MARK
    for key, (name, (kind, shape)) in enumerate(entries.items()):
        strides = [math.prod(shape[i + 1:]) for i in range(len(shape))]
        values = pickle.LONG1 + b"\5" + math.prod(shape).to_bytes(5, "little")
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK
        out += (pickle.MARK + text("storage") + storages[kind] + text(str(key)) + text("cpu") + values + pickle.TUPLE
                + pickle.BINPERSID)
        out += pickle.BININT1 + b"\0" + numbers(shape) + numbers(strides) + pickle.NEWFALSE
        out += b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE
    return out + pickle.SETITEMS + pickle.STOP


def write_bin(path, entries):
    """A zip as torch.save makes it; the storages are holes, so their checksums are those of nothing."""
    members = [("data.pkl", state_dict_pickle(entries))]
    members += [(f"data/{key}", size_of(*entry)) for key, entry in enumerate(entries.values())]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in [*members, ("version", b"3\n")]:
            info = zipfile.ZipInfo(f"archive/{name}")
            info.header_offset = archive.fp.tell()
            hole = isinstance(content, int)
            info.file_size = info.compress_size = content if hole else len(content)
            info.CRC = 0 if hole else zlib.crc32(content)
            archive.fp.write(info.FileHeader(zip64=True))
            archive.fp.seek(content, 1) if hole else archive.fp.write(content)
            archive.filelist.append(info)
        archive.start_dir = archive.fp.tell()


def write_pdparams(path, config):
    """model_state.pdparams with the published Paddle names before conversion."""
    with open(path, "wb") as file:
        writer = Writer(SparseFile(file))
        for p in names.parameters(config):
            values = np.zeros(math.prod(p.shape), np.uint16)  # never touched, so it takes no memory
            writer.begin(re.sub("^qwen\\.", "transformer.", p.paddle_name), p.paddle_shape, "bfloat16", values.nbytes)
            writer.write(values)
        writer.close()


def write_published(folder, kind="bin", change=lambda entries: None):
    """Write the folder: kind "bin", "safetensors" (ten shards and an index) or "pdparams"; returns it.

    `change` may alter name -> (type, shape) of what the files hold; the index keeps what was published.
    """
    config = ModelConfig.from_dict(CONFIG)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "bf16": True, "fp16": False, "torch_dtype": "bfloat16"}))
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml", "max_window_size": 6144}))
    write_vocabulary(folder / "qwen.tiktoken", config.image_start_id)
    if kind == "pdparams":
        write_pdparams(folder / "model_state.pdparams", config)
        return folder
    pattern, index, write = {
        "bin": ("pytorch_model-{:05}-of-{:05}.bin", "pytorch_model.bin.index.json", write_bin),
        "safetensors": ("model-{:05}-of-{:05}.safetensors", "model.safetensors.index.json", write_safetensors),
    }[kind]
    places = {}
    for number, part in enumerate(shards_of(tensors(config)), 1):
        file = pattern.format(number, SHARDS)
        places.update(dict.fromkeys(part, file))
        change(part)
        write(folder / file, part)
    total = sum(size_of(*entry) for entry in tensors(config).values())
    (folder / index).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))
    return folder
