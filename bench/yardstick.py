"""The device itself, timed beside an arm: how long it takes to read memory and to multiply matrices.

A baseline is older than what is compared with it, and the machine may have changed in between; a neighbour on the same
host may slow it for seconds. These two times say so; nothing of this repository's operators is in them. CpuYardstick
and GpuYardstick are targets of a worker (bench/worker.py).
"""

import time
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from bench.schema import DEVICE_STAGES

SAMPLES = 8            # of each time, a round: most of them miss a burst of other programs
COLUMNS = 4096         # of the matrix that a vector is multiplied with: 64 MiB, beyond the cache of a core
SIDE = 512             # of the matrices that are multiplied with each other


@dataclass(frozen=True)
class Kind:
    """How a device's yardstick is started: its class, the framework whose interpreter it has, the wheel that computes.
    """

    target: str
    framework: str
    wheel: str


YARDSTICKS = {"cpu": Kind("bench.yardstick:CpuYardstick", "paddle", "numpy"),
              "gpu": Kind("bench.yardstick:GpuYardstick", "torch", "torch")}


def stages(*times):
    """What `measure` of an arm returns: lists of ms of reading and multiplying."""
    return {"stages": dict(zip(DEVICE_STAGES, times, strict=True))}


class Quiet:
    """Whether the device is as fast as it has been: within `share` of its best times.

    best: {stage: ms} of a baseline; without one, the least seen so far.
    """

    def __init__(self, share, best=None):
        self.share, self.fixed, self.best = share, best is not None, dict(best or {})

    def is_quiet(self, stages):
        """stages: {stage: [ms]} as the yardstick measured them just now."""
        least = {stage: min(times) for stage, times in stages.items()}
        if not self.fixed:
            self.best = {stage: min(ms, self.best.get(stage, ms)) for stage, ms in least.items()}
        return all(ms <= (1 + self.share) * self.best[stage] for stage, ms in least.items())


class CpuYardstick:
    """numpy's products, by the BLAS that is linked into it, on as many threads as the arms have."""

    def prepare(self, **_):
        rng = np.random.default_rng(0)
        self.matrix, self.vector = rng.random((COLUMNS, COLUMNS), np.float32), np.ones(COLUMNS, np.float32)
        self.square = rng.random((SIDE, SIDE), np.float32)
        self.measure()
        return {"numpy": np.__version__}

    def measure(self):
        return stages(self._times(lambda: self.matrix @ self.vector), self._times(lambda: self.square @ self.square))

    @staticmethod
    def _times(work):
        marks = [time.perf_counter()]
        for _ in range(SAMPLES):
            work()
            marks.append(time.perf_counter())
        return (np.diff(marks) * 1e3).tolist()


class GpuYardstick:
    """A copy inside the device's memory, and torch.matmul at the prefill's shapes, on the device's clock."""

    def prepare(self, dtype, shapes):
        """shapes: products (rows, out, in), see bench.work.matrix_shapes. Returns {wheel: version} of what computes."""
        import torch

        from bench.ceilings import READ_BYTES, products_graph

        self.torch = torch
        self.memory = torch.zeros(2, READ_BYTES // 2, dtype=torch.uint8, device="cuda")
        self.graphs = [products_graph(shape, getattr(torch, dtype)) for shape in shapes]
        self.measure()
        return {"torch": metadata.version("torch")}

    def measure(self):
        return stages(self._times(lambda: self.memory[0].copy_(self.memory[1])),
                      self._times(lambda: [graph.replay() for graph in self.graphs]))

    def _times(self, work):
        marks = [self.torch.cuda.Event(enable_timing=True) for _ in range(SAMPLES + 1)]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        self.torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in zip(marks, marks[1:], strict=False)]
