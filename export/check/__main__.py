"""`python -m export.check CKPT`: whether a downloaded Qwen-VL checkpoint is whole, what it needs, what to do next.

Reads headers, small files and nothing else, so it takes seconds. Every problem is listed; status 1 if there is one.
"""

import argparse
import shlex
from collections import Counter
from pathlib import Path

from core.errors import UserError, run_cli
from core.machine import memory
from export import plain
from export.check import download, files, needs
from export.check.findings import GB, Findings
from export.checkpoint import WEIGHTS
from export.dtypes import STORAGE
from export.manifest import MANIFEST
from export.names import listed

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
    findings = Findings()
    foreign = plain.foreign(folder)
    for fault in foreign or plain.unsupported(folder):
        findings.problem(fault)
    if not foreign:
        _check_files(folder, Path(converted), Path(exported), dtype, hashes, findings)
    if findings.problems:
        findings.next(f"mend the above, then: make check {_typed(folder)}")
    return findings


def _check_files(folder, converted, exported, dtype, hashes, findings):
    pointers = files.pointers(folder, findings)
    config = files.config(folder, pointers, findings)
    tensors = files.weights(folder, config, pointers, findings)
    files.vocabulary(folder, config, pointers, findings)
    files.hashes(folder, pointers, hashes, findings)
    if unfinished := download.unfinished(folder):
        findings.note(f"unfinished downloads lie there: {listed(unfinished)}")
    if tensors:
        half = _half(tensors)
        dtype = dtype or (half if GPU.exists() else "float32")
        layout, _ = plain.layout(folder)
        quantised = layout and layout.quantised
        _disk(config, tensors, dtype, quantised, converted, exported, findings)
        _memory(tensors, findings)
    if not findings.problems:
        _next_steps(folder, config, dtype, half, quantised, findings)


def _half(tensors):
    """The half-precision type that most tensors have; float16 when none has one."""
    stored = Counter(tensor.dtype for tensor in tensors.values() if tensor.dtype != "float32").most_common(1)
    return stored[0][0] if stored else "float16"


def _disk(config, tensors, dtype, quantised, converted, exported, findings):
    weights, graphs = needs.converted_bytes(tensors), needs.graph_bytes(config, dtype, quantised=quantised)
    wanted = [(converted / WEIGHTS, weights), *_graph_files(exported, "fused", dtype, graphs)]
    lacking = needs.lacking_disk(wanted)
    for folder, needed, free in lacking:
        findings.problem(f"disk: conversion and export write {needed / GB:.1f} GB, {folder} has {free / GB:.1f} GB "
                         "free: free some space, or set BUILD= to another disk")
    if not lacking:
        findings.ok(f"disk: conversion writes {weights / GB:.1f} GB, export {sum(graphs.values()) / GB:.1f} GB in "
                    f"{dtype}")
        native = _graph_files(exported, "native", dtype, needs.graph_bytes(config, dtype, "native"))
        for folder, needed, free in needs.lacking_disk([*wanted, *native]):
            findings.note(f"disk: with the native graphs of the benchmark it is {needed / GB:.1f} GB, {free / GB:.1f} "
                          f"GB are free in {folder}: use ARMS= to leave paddle-native out")


def _memory(tensors, findings):
    _, available = memory()
    making = needs.making_bytes(tensors)
    text = f"memory: conversion and export take up to {making / GB:.1f} GB"
    if available and making > available:
        findings.problem(f"{text}, {available / GB:.1f} GB are available: stop other programs")
    else:
        findings.ok(text)


def _next_steps(folder, config, dtype, half, quantised, findings):
    """The commands to go on with, on this machine if it can run the model."""
    _, available = memory()
    running = needs.running_bytes(config, dtype, quantised)
    if dtype != "float32":
        findings.note(f"running in {dtype} takes {running / GB:.1f} GB of GPU memory")
    elif available and running > available:
        findings.note(f"running in float32 takes {running / GB:.1f} GB of memory, {available / GB:.1f} GB are "
                      f"available; on a GPU {half} takes {needs.running_bytes(config, half, quantised) / GB:.1f} GB")
        findings.next(f"on a machine with such a GPU: make bench {_typed(folder)} DTYPE={half} DEVICE=gpu")
        return
    else:
        findings.note(f"running in float32 takes {running / GB:.1f} GB of memory")
    options = f"{_typed(folder)} DTYPE={dtype}{' DEVICE=gpu' if dtype != 'float32' else ''}"
    findings.next(f"make infer {options} IMAGE=photo.jpg")
    findings.next(f"make bench {options}")


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
    findings = check(options.checkpoint, options.converted, options.exported, options.dtype, options.hashes)
    for kind, text in findings.lines:
        print(f"{kind:8} {text}")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    run_cli(main)
