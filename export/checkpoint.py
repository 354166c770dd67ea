"""Opens a checkpoint folder of any published format and checks it against its config.json."""

import contextlib
import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path

import xxhash

from core.config import ModelConfig
from core.errors import UserError
from core.files import file_hash
from core.ranks import VOCABULARY, read_ranks
from core.text import plural
from export import names, plain
from export.dtypes import STORAGE
from export.names import listed
from export.progress import progress
from export.readers import pdparams, safetensors, sharded, torch_bin
from export.readers.quantised import Layout
from export.stored import StoredTensor

WEIGHTS = "model_state.pdparams"
CONVERSION = "conversion.json"  # beside converted weights: what they were made from
FORMATS = (("model.safetensors.index.json", safetensors.read), ("model.safetensors", safetensors.read),
           ("pytorch_model.bin.index.json", torch_bin.read), ("pytorch_model.bin", torch_bin.read),
           ("gptq_model-*bit-*g.safetensors.index.json", safetensors.read),   # as AutoGPTQ calls them
           ("gptq_model-*bit-*g.safetensors", safetensors.read), (WEIGHTS, pdparams.read))
TOKENIZER_FILES = (VOCABULARY, "tokenizer_config.json", "generation_config.json")
COPIED_FILES = ("config.json", *plain.LAYOUT_FILES, *TOKENIZER_FILES)   # to what is made of a checkpoint
MAX_CONVERSION_BYTES = 1 << 16
EXPECTED = ("model.safetensors, pytorch_model.bin or model_state.pdparams (the first two also in shards with their "
            "index)")


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint: `tensors` maps Hugging Face names to StoredTensor in Hugging Face's layout.

    Where `layout` says how, the decoder's matrices are QuantisedTensor.
    """

    path: Path
    config: ModelConfig
    tensors: dict
    files: tuple
    prefix: str  # what stood before every tensor's name in the files
    layout: Layout | None = None

    @property
    def quantised(self):
        """The Quantisation of the decoder's matrices, None where they are plain."""
        return self.layout and self.layout.quantised

    @property
    def note(self):
        """What a user should know of how the checkpoint was read; "" when it is as published."""
        return prefix_note(self.path, self.prefix) if self.prefix else ""

    @property
    def synthetic(self):
        return plain.is_synthetic(self.path)

    def check_contents(self):
        """Raise UserError for damage that only reading shows: in the vocabulary, in weights with checksums, or in what
        belongs to codes.

        The vocabulary may be missing, then text cannot be used. The files of torch.save have checksums.
        """
        if (self.path / VOCABULARY).exists():
            read_ranks(self.path / VOCABULARY, self.config.image_start_id)
        for tensor in self.tensors.values():
            tensor.check()
        stored = [part for tensor in self.tensors.values() for part in tensor.stored]
        sources = {tensor.source for tensor in stored if tensor.source.checksums}
        if not sources:
            return
        with progress("check", sum(length for source in sources for _, length in source.checksums)) as advance:
            wrong = {source: source.differing(advance) for source in sorted(sources, key=lambda source: source.path)}
        for source, places in wrong.items():
            if places:
                damaged = [tensor.name for tensor in stored if tensor.source is source
                           and any(begin <= tensor.offset < begin + length for begin, length in places)]
                raise UserError(f"{source.path} is damaged: the checksum (CRC-32) of {listed(damaged) or 'an entry'} "
                                "is another than when it was saved: download the file again")

    def hash(self):
        """What identifies the weights: xxh3-128 over the hashes of the files that hold them, in order of their names.

        For converted weights that are as convert left them it is the hash of what they were converted from.
        """
        hashes = [file_hash(path) for path in self.files]
        origin = self.path / CONVERSION
        if origin.is_file() and origin.stat().st_size < MAX_CONVERSION_BYTES:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                conversion = json.loads(origin.read_bytes())
                if [conversion["weights_hash"]] == hashes:
                    return str(conversion["source_hash"])
        return xxhash.xxh3_128("".join(hashes).encode()).hexdigest()


def open_checkpoint(path):
    """Open a folder (safetensors, pytorch_model*.bin or model_state.pdparams, whole or sharded).

    Only headers and small files are read. Raises UserError naming what makes it no plain checkpoint, or every tensor
    that does not fit config.json.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no checkpoint folder {path}: CKPT= must be a Qwen-VL checkpoint folder")
    if faults := plain.foreign(path) or plain.unsupported(path):
        raise UserError("; ".join(faults))
    found = find_weights(path)
    if fault := plain.pointers(path, files_read(path, found))[1]:
        raise UserError(fault)
    config = ModelConfig.load(path)
    if found is None:
        raise UserError(plain.no_weights(path, EXPECTED))
    file, read = found
    stored = sharded.read(file, read) if file.suffix == ".json" else read(file)
    layout, _ = plain.layout(path)
    prefix = plain.prefix(path, stored, layout)
    tensors, faults = fit(stored, config, prefix, layout=layout)
    if faults:
        raise UserError(f"{path} does not fit its config.json: {'; '.join(faults)}")
    files = tuple(sorted({tensor.source.path for tensor in stored.values()}))
    return Checkpoint(path, config, tensors, files, prefix, layout)


def open_whole(path):
    """`open_checkpoint`, its contents checked as well; prints the checkpoint's note."""
    checkpoint = open_checkpoint(path)
    checkpoint.check_contents()
    if checkpoint.note:
        print(checkpoint.note, flush=True)
    return checkpoint


def prefix_note(folder, prefix):
    """What is said of a `prefix` that every tensor's name has."""
    return f"{folder}: {ascii(prefix[:100])} before every tensor's name, left by a training program, is left out"


def weights_files(folder):
    """[(file, reader)] of all formats that `folder` has, the one that is taken first."""
    found = sorted(os.listdir(folder))   # links to nowhere as well
    return [(folder / name, read) for pattern, read in FORMATS for name in fnmatch.filter(found, pattern)]


def find_weights(folder):
    """(file, reader) of the first format that `folder` has; the file is an index where the weights are in shards.

    None when it has no weights at all. Raises UserError when an index and a whole file contradict each other.
    """
    candidates = weights_files(folder)
    whole_files = [file.name for file, _ in candidates if file.suffix != ".json"]
    if not candidates:
        return None
    first, _ = candidates[0]
    if whole_files and first.suffix == ".json" and not plain.pointers(folder, [first.name])[0]:
        _refuse_stale(first, whole_files)
    return candidates[0]


def _refuse_stale(index, whole_files):
    """Raise UserError unless shards are what `index` names, all of them there, and no file of its format is whole."""
    shards = set(sharded.places(index).values())
    absent = [shard for shard in shards if not os.path.lexists(index.parent / shard)]
    own = index.name.removesuffix(".index.json")
    other = own if own in whole_files else whole_files[0] if absent else None
    if other and shards != {other}:
        remedy = f"download its files, then delete {other}" if absent else f"delete {other} to use its files"
        raise UserError(f"{index} names {plural(len(shards), 'other file')}, {len(absent)} missing, and {other} lies "
                        f"beside it: delete the stale index to use {other}, or {remedy}")


def files_read(folder, weights):
    """Names of the files that are read of a checkpoint; `weights` is what find_weights gave."""
    names = ["config.json", *TOKENIZER_FILES]
    if weights:
        file, _ = weights
        names.append(file.name)
        if file.suffix == ".json" and not plain.pointers(folder, [file.name])[0]:
            names += sorted(set(sharded.places(file).values()))
    return names


def fit(stored, config, prefix="", unread=(), layout=None):
    """(tensors, faults): the stored tensors under their Hugging Face names and layout, and what does not fit `config`.

    stored: name -> StoredTensor. prefix: what every name begins with beside its own. unread: names that files hold
    which could not be read; they are not missed. layout: the Layout of the decoder's matrices, each of which then is a
    QuantisedTensor. faults: a text for each kind of mismatch, with the names.
    """
    stored = {name: tensor for name, tensor in stored.items() if not names.BUFFERS.search(name)}
    short = {name: name.removeprefix(prefix) for name in (*stored, *unread)}
    paddle = any(name.startswith(("visual.", "qwen.", "transformer.llm.")) for name in short.values())
    if paddle:
        short = {name: names.converted_name(cut) for name, cut in short.items()}
    unread, own, twice = {short[name] for name in unread}, {}, []
    for name, tensor in stored.items():
        if own.setdefault(short[name], tensor) is not tensor:
            twice.append(name)
    parameters, joined = names.parameters(config), []
    if layout:
        expected = {p.paddle_name if paddle else p.name: p.shape for p in parameters}
        own, unread, joined = layout.join(own, unread, expected)

    missing, shapes, types, tensors = [], [], [], {}
    for p in parameters:
        published = p.paddle_name if paddle else p.name
        tensor = own.pop(published, None)
        if tensor is None:
            if published not in unread:
                missing.append(published)
            continue
        transposed = paddle and p.linear and isinstance(tensor, StoredTensor)
        shape = p.paddle_shape if transposed else p.shape
        if tensor.shape != shape:
            shapes.append(f"{tensor.name} {list(tensor.shape)} instead of {list(shape)}")
        if tensor.dtype not in STORAGE:
            types.append(f"{tensor.name} {tensor.dtype}")
        tensors[p.name] = tensor.transposed if transposed else tensor
    unexpected = sorted([*twice, *(tensor.name for tensor in own.values())])
    return tensors, joined + [f"{len(found)} {what}: {listed(found)}" for what, found in (
        ("missing", missing), ("of another shape", shapes), ("neither float32, float16 nor bfloat16", types),
        ("unexpected", unexpected)) if found]
