"""Disk and memory that conversion, export and running need, computed from shapes alone."""

import os
import shutil
from pathlib import Path

from export.dtypes import STORAGE
from export.params import parameter_bytes
from ops.weights import STAGES, stored_parameters

BASE_BYTES = 600_000_000   # the interpreter with Paddle, and blocks on their way
TENSOR_COPIES = 2.5        # of the largest tensor: as it is stored, in another order, and as another type


def converted_bytes(tensors):
    """Size of the converted weights: values and types stay as they are stored."""
    return sum(part.values * part.item_bytes for tensor in tensors.values() for part in tensor.stored)


def graph_bytes(config, dtype, impl="fused", quantised=None):
    """{graph: size of its exported weights}; quantised: the checkpoint's Quantisation."""
    return {graph: parameter_bytes(stored_parameters(config, graph, dtype, impl, quantised)) for graph in STAGES}


def making_bytes(tensors):
    """Upper bound of the resident memory of conversion and export, which hold one tensor at a time."""
    largest = max((tensor.values * tensor.item_bytes for tensor in tensors.values()), default=0)
    return BASE_BYTES + int(TENSOR_COPIES * largest)


def running_bytes(config, dtype, quantised=None):
    """Weights of both graphs, of codes at most, and the KV cache of one prompt of `seq_length` tokens."""
    cache = 2 * config.num_hidden_layers * config.seq_length * config.hidden_size * STORAGE[dtype].itemsize
    return sum(graph_bytes(config, dtype, quantised=quantised).values()) + cache


def lacking_disk(wanted):
    """[(folder, bytes needed, bytes free)] for each disk that is too small for `wanted`, a list of (path, bytes).

    What exists already needs no more.
    """
    disks = {}
    for path, size in wanted:
        if Path(path).exists():
            continue
        place = next(parent for parent in Path(path).resolve().parents if parent.exists())
        folder, total = disks.get(os.stat(place).st_dev, (place, 0))
        disks[os.stat(place).st_dev] = (folder, total + size)
    free = {device: shutil.disk_usage(folder).free for device, (folder, _) in disks.items()}
    return [(folder, total, free[device]) for device, (folder, total) in disks.items()
            if total > free[device]]
