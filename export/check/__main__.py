"""`python -m export.check CKPT`: whether a downloaded Qwen-VL checkpoint is whole, what it needs, what to do next.

Reads headers, small files and nothing else, so it takes seconds. Every problem is listed; status 1 if there is one.
"""

import argparse
import shlex
from collections import Counter
from pathlib import Path

from core.errors import UserError, run_cli
from core.machine import memory
from export.check import download, files, needs
from export.check.findings import GB, Findings
from export.checkpoint import WEIGHTS, listed
from export.dtypes import STORAGE
from export.manifest import MANIFEST

GPU = Path("/dev/nvidia0")


def check(folder, converted, exported, dtype=None, hashes=False):
    """Check a checkpoint folder; returns Findings.

    converted, exported: folders that conversion and export would write; dtype: the graphs' type, by default the one
    that suits this machine; hashes: compare large files with their published hashes as well, which reads them whole.
    Raises UserError when there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no checkpoint folder {folder}: CKPT= must be a Qwen-VL checkpoint folder")
    found = Findings()
    pointers = files.pointers(folder, found)
    config = files.config(folder, pointers, found)
    tensors = files.weights(folder, config, pointers, found)
    files.vocabulary(folder, config, pointers, found)
    files.hashes(folder, pointers, hashes, found)
    if left := download.unfinished(folder):
        found.note(f"unfinished downloads lie there: {listed(left)}")
    if tensors:
        half = _half(tensors)
        dtype = dtype or (half if GPU.exists() else "float32")
        _disk(config, tensors, dtype, Path(converted), Path(exported), found)
        _memory(tensors, found)
    if found.problems:
        found.next(f"mend the above, then: make check {_typed(folder)}")
    else:
        _next_steps(folder, config, dtype, half, found)
    return found


def _half(tensors):
    """The half-precision type that most tensors have; float16 when none has one."""
    stored = Counter(tensor.dtype for tensor in tensors.values() if tensor.dtype != "float32").most_common(1)
    return stored[0][0] if stored else "float16"


def _disk(config, tensors, dtype, converted, exported, found):
    weights, graphs = needs.converted_bytes(tensors), needs.graph_bytes(config, dtype)
    wanted = [(converted / WEIGHTS, weights), *_graph_files(exported, "fused", dtype, graphs)]
    lacking = needs.lacking_disk(wanted)
    for folder, needed, free in lacking:
        found.problem(f"disk: conversion and export write {needed / GB:.1f} GB, {folder} has {free / GB:.1f} GB free: "
                      "free some space, or set BUILD= to another disk")
    if not lacking:
        found.ok(f"disk: conversion writes {weights / GB:.1f} GB, export {sum(graphs.values()) / GB:.1f} GB in {dtype}")
        for folder, needed, free in needs.lacking_disk([*wanted, *_graph_files(exported, "native", dtype, graphs)]):
            found.note(f"disk: with the native graphs of the benchmark it is {needed / GB:.1f} GB, {free / GB:.1f} GB "
                       f"are free in {folder}: use ARMS= to leave paddle-native out")


def _memory(tensors, found):
    _, available = memory()
    making = needs.making_bytes(tensors)
    text = f"memory: conversion and export take up to {making / GB:.1f} GB"
    if available and making > available:
        found.problem(f"{text}, {available / GB:.1f} GB are available: stop other programs")
    else:
        found.ok(text)


def _next_steps(folder, config, dtype, half, found):
    """The commands to go on with, on this machine if it can run the model."""
    _, available = memory()
    running = needs.running_bytes(config, dtype)
    if dtype != "float32":
        found.note(f"running in {dtype} takes {running / GB:.1f} GB of GPU memory")
    elif available and running > available:
        found.note(f"running in float32 takes {running / GB:.1f} GB of memory, {available / GB:.1f} GB are available; "
                   f"on a GPU {half} takes {needs.running_bytes(config, half) / GB:.1f} GB")
        found.next(f"on a machine with such a GPU: make bench {_typed(folder)} DTYPE={half} DEVICE=gpu")
        return
    else:
        found.note(f"running in float32 takes {running / GB:.1f} GB of memory")
    options = f"{_typed(folder)} DTYPE={dtype}{' DEVICE=gpu' if dtype != 'float32' else ''}"
    found.next(f"make infer {options} IMAGE=photo.jpg")
    found.next(f"make bench {options}")


def _typed(folder):
    """The folder as an argument of make, for a shell."""
    return shlex.quote(f"CKPT={folder}")


def _graph_files(exported, impl, dtype, graphs):
    return [(exported / f"{impl}-{dtype}" / graph / MANIFEST, size) for graph, size in graphs.items()]


def main():
    parser = argparse.ArgumentParser(prog="python -m export.check", description=__doc__)
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--converted", type=Path, required=True, help="folder that conversion would write")
    parser.add_argument("--exported", type=Path, required=True, help="folder that the exported graphs would lie in")
    parser.add_argument("--dtype", choices=sorted(STORAGE), help="default: what suits this machine")
    parser.add_argument("--hashes", action="store_true", help="compare large files with their hashes as well")
    options = parser.parse_args()
    found = check(options.checkpoint, options.converted, options.exported, options.dtype, options.hashes)
    for kind, text in found.lines:
        print(f"{kind:8} {text}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    run_cli(main)
