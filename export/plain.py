"""What is no plain checkpoint: adapters, quantised weights, Git LFS pointers, names that a training program left.

Each is one line that says what it is and what to do about it. Small files and tensor names tell; no weights are read.
"""

import json
import re
from collections import Counter

from core.config import MAX_CONFIG_BYTES
from core.errors import UserError
from core.text import plural
from export.names import listed
from export.readers.awq import Awq
from export.readers.compressed_tensors import CompressedTensors
from export.readers.gptq import Gptq

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
MAX_POINTER_BYTES = 1024   # the format's own limit
ASSUMED = {"no_bias": True, "rotary_pct": 1.0, "tie_word_embeddings": False, "scale_attn_weights": True}
LAYOUTS = (Gptq, Awq, CompressedTensors)
LAYOUT_FILES = tuple(layout.BESIDE for layout in LAYOUTS if layout.BESIDE)
QUANTISED_NAMES = (  # what they say, a pattern, the file that is missing then
    ("GPTQ", r"\.g_idx$", Gptq.BESIDE), ("GPTQ or AWQ", r"\.q(weight|zeros)$", f"{Gptq.BESIDE} or {Awq.BESIDE}"),
    ("bitsandbytes", r"\.(SCB|weight_format|absmax|quant_map)$|\.quant_state\.", ""),
    ("compressed-tensors", r"\.weight_packed$", ""), ("8 bits", r"\.weight_scale(_inv)?$", ""))
DEQUANTISE = ("download the float16 or bfloat16 checkpoint, or dequantise this one with the program that made it and "
              "save it again")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
ADAPTER_NAMES = re.compile(r"(^|\.)(lora_\w+|base_layer|modules_to_save|original_module)(\.|$)")
MERGE = "merge it into its base model with peft (merge_and_unload, then save_pretrained) and give the merged folder"
WRAPPERS = {"_orig_mod": "torch.compile", "_fsdp_wrapped_module": "FSDP",
            "_checkpoint_wrapped_module": "activation checkpointing", "module": "DataParallel"}
# What stands before the first part of a name that every format has, see export/names.py.
PREFIX = re.compile(r"((?:[^.]+\.)*?)(?:transformer|qwen|visual|lm_head)\.")
SHARD = re.compile(r"(.+)-\d+-of-\d+\.(safetensors|bin)")


def small_json(path):
    """The object in a small JSON file, {} when there is none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:   # a pipe would wait for its writer
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_synthetic(folder):
    """Whether config.json says that the weights are random."""
    return "synthetic" in small_json(folder / "config.json")


def foreign(folder):
    """Lines that say that `folder` holds no weights of its own, or quantised ones that are not read, as far as its
    small files tell."""
    config = small_json(folder / "config.json")
    return [text for text in (_adapter(folder, config), layout(folder)[1]) if text]


def unsupported(folder):
    """A line for each setting of config.json that asks for what the graphs do not do."""
    config = small_json(folder / "config.json")
    return [f"{folder}/config.json: {key} is {ascii(config[key])[:40]}, only {value!r} is supported"
            for key, value in ASSUMED.items() if config.get(key, value) != value]


def _adapter(folder, config):
    adapters = [name for name in ADAPTER_FILES if (folder / name).exists()]
    if not adapters:
        return ""
    kind = small_json(folder / ADAPTER_FILES[0]).get("peft_type")
    kind = f" ({ascii(kind[:20])[1:-1]})" if isinstance(kind, str) else ""
    merged = f"; if its weights are merged already, move {' and '.join(adapters)} out of the folder" if config else ""
    return f"{folder} holds an adapter of peft{kind}, which is no whole model: {MERGE}{merged}"


def layout(folder):
    """(Layout or None, a line that says why quantised weights are not read, "" if they are or there are none)."""
    path = folder / "config.json"
    entry = small_json(path).get("quantization_config")
    beside = [(kind, folder / kind.BESIDE) for kind in LAYOUTS if kind.BESIDE and (folder / kind.BESIDE).exists()]
    if entry is None:
        found = [kind.settings(small_json(file), file) for kind, file in beside]
        if len(found) > 1:
            return None, _differ(*(file for _, file in beside))
        return found[0] if found else (None, "")
    entry = entry if isinstance(entry, dict) else {}
    method = str(entry.get("quant_method") or ("bitsandbytes" if "bnb_4bit_quant_type" in entry else "some method"))
    kind = next((kind for kind in LAYOUTS if method == kind.METHOD), None)
    if kind is None:
        return None, (f"{path} says that the weights are quantised ({ascii(method[:40])[1:-1]}): {DEQUANTISE} (weights "
                      "that are dequantised already: take quantization_config out of config.json)")
    found, fault = kind.settings(entry, path)
    for other, file in beside if found else ():
        if other.settings(small_json(file), file)[0] != found:
            return None, _differ(path, file)
    return found, fault


def _differ(one, other):
    return f"{one} and {other} say different things of the weights: delete the wrong one's entry"


def no_weights(folder, expected):
    """Why a folder without weights that can be read has none, and what to do."""
    indexes = sorted({f"{shard[1] if shard[2] == 'safetensors' else 'pytorch_model'}.{shard[2]}.index.json"
                      for shard in map(SHARD.fullmatch, (path.name for path in folder.iterdir())) if shard})
    if indexes:
        return f"{folder} has weights in shards without their index: download {listed(indexes)}"
    if (folder / "zero_to_fp32.py").exists():
        return f"{folder} holds DeepSpeed's own files: run its zero_to_fp32.py and give the folder that it writes"
    if any(folder.glob("*.gguf")):
        return f"{folder} holds quantised weights (GGUF): {DEQUANTISE}"
    return f"no weights in {folder}: expected {expected}; download them"


def pointer_bytes(path):
    """Size of the file that a Git LFS pointer stands for, None when `path` is no pointer."""
    if not path.is_file() or path.stat().st_size > MAX_POINTER_BYTES:
        return None
    raw = path.read_bytes()
    size = re.search(rb"^size ([0-9]{1,15})$", raw, re.MULTILINE)
    return int(size[1]) if raw.startswith(POINTER) and size else None


def pointers(folder, names):
    """(those of the files `names` that are Git LFS pointers, a line that says so; "" when none is)."""
    sizes = {name: pointer_bytes(folder / name) for name in names}
    pointing = [name for name in names if sizes[name] is not None]
    total = sum(sizes[name] for name in pointing) / 1e9
    return pointing, pointing and (f"{len(pointing)} Git LFS pointers instead of files of {total:.1f} GB: run "
                                   f"`git lfs pull` in {folder}, for {listed(pointing)}")


def prefix(where, names, layout=None):
    """What a training program has put before every tensor's name, "" when nothing.

    layout: the checkpoint's Layout. Raises UserError, `where` first, when the names are those of other quantised
    weights or of an adapter, or when a wrapper's name stands before some of them only, or inside them.
    """
    for method, pattern, missing in QUANTISED_NAMES:
        if layout and any(re.search(pattern, f".{part}") for part in layout.TYPES):
            continue
        if matching := [name for name in names if re.search(pattern, name)]:
            how = f" and no {missing} that says how: download it, or" if missing and not layout else ":"
            raise UserError(f"{where} holds quantised weights ({method}: {listed(matching[:1])}){how} {DEQUANTISE}")
    if matching := [name for name in names if ADAPTER_NAMES.search(name)]:
        raise UserError(f"{where} holds an adapter of peft that is not merged ({listed(matching[:1])}): {MERGE}")
    begun = {name: match[1] for name in names if (match := PREFIX.match(name))}
    for name, start in begun.items():
        for part in name.removeprefix(start).split("."):
            if part in WRAPPERS:
                raise UserError(f"{where}: {listed([name])} holds {part!r}, left by {WRAPPERS[part]}: save the "
                                f"state_dict() of the model without it, or take '{part}.' out of the names")
    counts = Counter(begun.values()).most_common()
    if len(counts) > 1:
        texts = [f"{listed([start]) or 'nothing'} ({plural(count, 'tensor')})" for start, count in counts[:3]]
        raise UserError(f"{where}: tensors' names begin differently, with {', '.join(texts)}: save the state_dict() of "
                        "one model alone, without the training program's wrapper")
    return counts[0][0] if counts else ""
