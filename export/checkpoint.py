"""Opens a checkpoint folder of any published format and checks it against its config.json."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import xxhash

from core.config import ModelConfig
from core.errors import UserError
from core.files import file_hash
from export import names
from export.dtypes import STORAGE
from export.readers import pdparams, safetensors, sharded, torch_bin

WEIGHTS = "model_state.pdparams"
CONVERSION = "conversion.json"  # beside converted weights: what they were made from
FORMATS = (("model.safetensors.index.json", safetensors.read), ("model.safetensors", safetensors.read),
           ("pytorch_model.bin.index.json", torch_bin.read), ("pytorch_model.bin", torch_bin.read),
           (WEIGHTS, pdparams.read))
TOKENIZER_FILES = ("qwen.tiktoken", "tokenizer_config.json", "generation_config.json")
MAX_CONVERSION_BYTES = 1 << 16
EXPECTED = ("model.safetensors, pytorch_model.bin or model_state.pdparams (the first two also in shards with their "
            "index)")
SHOWN = 12  # names listed per kind of mismatch


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint: `tensors` maps Hugging Face names to StoredTensor in Hugging Face's layout."""

    path: Path
    config: ModelConfig
    tensors: dict
    files: tuple

    @property
    def synthetic(self):
        """Whether config.json says that the weights are random."""
        return "synthetic" in json.loads((self.path / "config.json").read_text(encoding="utf-8"))

    def hash(self):
        """What identifies the weights: xxh3-128 over the hashes of the files that hold them, in order of their names.

        For converted weights that are as convert left them it is the hash of what they were converted from.
        """
        hashes = [file_hash(path) for path in self.files]
        origin = self.path / CONVERSION
        if origin.is_file() and origin.stat().st_size < MAX_CONVERSION_BYTES:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                made = json.loads(origin.read_bytes())
                if [made["weights_hash"]] == hashes:
                    return str(made["source_hash"])
        return xxhash.xxh3_128("".join(hashes).encode()).hexdigest()


def open_checkpoint(path):
    """Open a folder (safetensors, pytorch_model*.bin or model_state.pdparams, whole or sharded).

    Only headers are read. Raises UserError naming every tensor that does not fit config.json.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no checkpoint folder {path}: CKPT= must be a Qwen-VL checkpoint folder")
    config = ModelConfig.load(path)
    found = find_weights(path)
    if found is None:
        raise UserError(f"no weights in {path}: expected {EXPECTED}")
    file, read = found
    stored = sharded.read(file, read) if file.suffix == ".json" else read(file)
    tensors, faults = fit(stored, config)
    if faults:
        raise UserError(f"{path} does not fit its config.json: {'; '.join(faults)}")
    files = tuple(sorted({tensor.source.path for tensor in stored.values()}))
    return Checkpoint(path, config, tensors, files)


def find_weights(folder):
    """(file, reader) of the first format that `folder` has; the file is an index where the weights are in shards.

    None when it has no weights at all.
    """
    for name, read in FORMATS:
        if os.path.lexists(folder / name):
            return folder / name, read
    return None


def fit(stored, config, unread=()):
    """(tensors, faults): the stored tensors under their Hugging Face names and layout, and what does not fit `config`.

    stored: name -> StoredTensor. unread: names that files hold which could not be read; they are not missed.
    faults: a text for each kind of mismatch, with the names that it applies to.
    """
    stored = {name: tensor for name, tensor in stored.items() if not names.BUFFERS.search(name)}
    every = [*stored, *unread]
    paddle = any(name.startswith(("visual.", "qwen.", "transformer.llm.")) for name in every)
    unread = {names.converted_name(name) if paddle else name for name in unread}
    own_name = {}
    for name in stored:
        own_name.setdefault(names.converted_name(name) if paddle else name, name)

    missing, shapes, types, tensors = [], [], [], {}
    for p in names.parameters(config):
        published, shape = (p.paddle_name, p.paddle_shape) if paddle else (p.name, p.shape)
        own = own_name.pop(published, None)
        if own is None:
            if published not in unread:
                missing.append(published)
            continue
        tensor = stored.pop(own)
        if tensor.shape != shape:
            shapes.append(f"{own} {list(tensor.shape)} instead of {list(shape)}")
        if tensor.dtype not in STORAGE:
            types.append(f"{own} {tensor.dtype}")
        tensors[p.name] = tensor.transposed if paddle and p.linear else tensor
    faults = [f"{len(found)} {what}: {listed(found)}" for what, found in (
        ("missing", missing), ("of another shape", shapes), ("of a type that is no floating type", types),
        ("unexpected", sorted(stored))) if found]
    return tensors, faults


def listed(found):
    """The first names of a list, safe to print, and how many more there are."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    # ascii(): a name may hold what would steer a terminal
    return ", ".join(ascii(text[:200])[1:-1] for text in found[:SHOWN]) + more
