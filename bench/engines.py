"""Engines over batch and length: what `make sweep` measures and writes, for pictures of tokens/s."""

from bench.arms import default_arms
from bench.results import folder_of
from bench.run import measured
from bench.schema import write_rows
from bench.sweep import frame
from core.files import atomic_file

ENGINES = {  # device -> ours, the best torch arm there, and vLLM where its interpreter is named
    "cpu": ("torch-sdpa", "paddle-fused"),
    "gpu": ("torch-compile", "vllm", "vllm-fp8", "paddle-fused", "paddle-fused-16bit")}
BATCHES, LENGTHS = (1, 2, 4, 8, 16, 32), (1, 16, 32, 64, 128, 256)
ROUNDS = 10           # of every case
FILE, TABLE = "sweep.jsonl", "sweep.csv"


def engines(device, frameworks):
    """The arms of a sweep unless they are named; `frameworks` as in bench.arms.default_arms."""
    return tuple(arm for arm in ENGINES[device] if arm in default_arms(device, frameworks))


def sweep(options, argv):
    """Measure every batch and every length; returns (folder, rows). Writes sweep.jsonl and sweep.csv there, and leaves
    the results of `make bench` as they are. UserError before anything is measured."""
    rows, _ = measured(options, argv)
    folder = folder_of(options.out, rows)
    write_rows(folder / FILE, rows)
    with atomic_file(folder / TABLE, "w") as f:
        frame(rows).to_csv(f, index=False)
    return folder, rows
