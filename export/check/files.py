"""The files of a downloaded checkpoint, one kind after the other; each function adds what it found to Findings."""

import json
import math
from collections import Counter
from pathlib import Path

from core.config import ModelConfig
from core.errors import UserError
from core.ranks import VOCABULARY, read_ranks
from core.text import plural
from export import names, plain
from export.check import download
from export.check.findings import GB
from export.checkpoint import EXPECTED, files_read, find_weights, fit, prefix_note, weights_files
from export.names import listed
from export.progress import progress
from export.readers import sharded

PUBLISHED = Path(__file__).parent.parent / "presets" / "7b.json"


def pointers(folder, findings):
    """Names of Git LFS pointers among the files that are read."""
    try:
        read = files_read(folder, find_weights(folder))
    except UserError:  # `weights` says it
        read = files_read(folder, None)
    pointing, fault = plain.pointers(folder, read)
    if fault:
        findings.problem(fault)
    return set(pointing)


def config(folder, pointers, findings):
    """The ModelConfig, None when there is no usable one."""
    if "config.json" in pointers:
        return None
    try:
        config = ModelConfig.load(folder)
    except UserError as e:
        findings.problem(str(e))
        return None
    published = ModelConfig.from_dict(json.loads(PUBLISHED.read_text(encoding="utf-8")))
    v = config.visual
    kind = "the published 7B geometry" if config == published else (
        f"{plural(config.num_hidden_layers, 'layer')} of {config.hidden_size}, encoder {plural(v.layers, 'layer')} of "
        f"{v.width}, not the published geometry")
    findings.ok(f"config.json: {kind}{_chat_format(folder)}")
    return config


def _chat_format(folder):
    """What generation_config.json says of the prompts' format, to follow other words; "" when it says nothing."""
    form = plain.small_json(folder / "generation_config.json").get("chat_format")
    return f", chat_format {form}" if form in ("chatml", "raw") else ""


def weights(folder, config, pointers, findings):
    """The tensors under their Hugging Face names; {} when something is missing or does not fit."""
    try:
        first = find_weights(folder)
        if first is None:
            raise UserError(plain.no_weights(folder, EXPECTED))
        file, read = first
        if file.name in pointers:
            return {}
        places = sharded.places(file) if file.suffix == ".json" else None
    except UserError as e:
        findings.problem(str(e))
        return {}
    others = [other.name for other, _ in weights_files(folder) if other != file]
    if others:
        findings.note(f"{file.name} is used, not {listed(others)}")
    stored, unread, whole = _read_files(folder, [file.name] if places is None else sorted(set(places.values())),
                                        places, read, pointers, findings)
    if whole:
        size = sum((folder / name).stat().st_size for name in whole)
        findings.ok(f"weights: {plural(len(whole), 'file')} complete ({file.name}), {size / GB:.2f} GB")
    if config is None or not stored:
        return {}
    try:
        layout, _ = plain.layout(folder)
        prefix = plain.prefix(folder, [*stored, *unread], layout)
    except UserError as e:
        findings.problem(str(e))
        return {}
    if prefix:
        findings.note(prefix_note(folder, prefix))
    tensors, faults = fit(stored, config, prefix, unread, layout)
    for fault in faults:
        findings.problem(f"tensors: {fault}")
    if faults or unread or len(tensors) < len(names.parameters(config)):
        return {}
    for tensor in tensors.values():
        try:
            tensor.check()
        except UserError as e:
            findings.problem(str(e))
            return {}
    kinds = Counter(part.dtype for tensor in tensors.values() for part in tensor.stored if tensor.stored == (tensor,))
    values = sum(math.prod(tensor.shape) for tensor in tensors.values())
    findings.ok(f"tensors: {len(tensors)} with the names and shapes that config.json means, {values / 1e9:.2f} billion "
                f"values, {', '.join(kind for kind, _ in kinds.most_common())}"
                + (f"; the decoder's matrices in {layout.quantised.description} ({layout.TITLE})" if layout else ""))
    return tensors


def _read_files(folder, files, places, read, pointers, findings):
    """(tensors, names in files that could not be read, names of files that are whole)."""
    stored, whole, absent = {}, [], [name for name in files if not (folder / name).exists()]
    if absent:
        findings.problem(f"{len(absent)} of {plural(len(files), 'file')} of weights missing, download them: "
                         f"{listed(absent)}")
    for name in files:
        if name in absent or name in pointers:
            continue
        try:
            tensors = read(folder / name)
        except UserError as e:
            findings.problem(f"{e}; download {name} again")
            continue
        whole.append(name)
        wanted = tensors if places is None else {key for key, shard in places.items() if shard == name}
        if lacking := sorted(key for key in wanted if key not in tensors):
            findings.problem(f"{name} lacks {plural(len(lacking), 'tensor')} that the index says it holds: "
                             f"{listed(lacking)}")
        stored.update((key, tensors[key]) for key in wanted if key in tensors)
    unread = {key for key in places or () if key not in stored}
    return stored, unread, whole


def vocabulary(folder, config, pointers, findings):
    """Check the vocabulary, and its size by config.json."""
    if VOCABULARY in pointers:
        return
    try:
        ranks = read_ranks(folder / VOCABULARY, config and config.image_start_id)
    except UserError as e:
        findings.problem(str(e))
    else:
        findings.ok(f"{VOCABULARY}: {len(ranks)} ranks")


def hashes(folder, pointers, large, findings):
    """Compare files with their published hashes; those above 64 MiB only when `large` is true."""
    given = {name: entry for name, entry in download.published_hashes(folder).items()
             if name not in pointers and Path(name).name == name and (folder / name).is_file()}
    if large and not given:
        findings.note("HASHES=1 compares nothing: the folder has no published hashes; download "
                      f"{download.SUMS[0]} of the checkpoint into it, or download with huggingface_hub, which writes "
                      "them")
    sizes = {name: (folder / name).stat().st_size for name in given}
    chosen = {name: entry for name, entry in given.items() if large or sizes[name] <= download.SMALL}
    if large and chosen:
        with progress("hashes", sum(sizes[name] for name in chosen)) as advance:
            wrong = download.differing(folder, chosen, advance)
    else:
        wrong = download.differing(folder, chosen)
    for name in wrong:
        findings.problem(f"{ascii(name)[1:-1]} is not the published file: its hash differs from {chosen[name][2]}; "
                         "download it again")
    if len(wrong) < len(chosen):
        findings.ok(f"hashes: {plural(len(chosen) - len(wrong), 'file')} as published")
    if left := [name for name in given if name not in chosen]:
        findings.note(f"the hashes of {plural(len(left), 'file')} were not compared: HASHES=1 reads "
                      f"{sum(sizes[name] for name in left) / GB:.1f} GB")
