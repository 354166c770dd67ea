"""The arms paddle-native and paddle-fused: infer.engine on an exported folder."""

import abc
from pathlib import Path

import numpy as np

from bench.arms.base import Arm, peak_resident_mib
from core.errors import UserError
from infer.engine import Engine, to_float32
from infer.formats import AUTO
from infer.graph import Manifest
from ops.framework import devices, import_paddle

paddle = import_paddle()


class ExportedArm(Arm):
    """What the arms on exported graphs of Paddle's have in common."""

    @abc.abstractmethod
    def load_engine(self, source, device, **options):
        """The engine that runs the graphs in a folder."""

    def open(self, source, dtype, device, threads, **options):
        # It takes its threads from OMP_NUM_THREADS, which the run sets.
        self.engine = self.load_engine(source, device, **options)
        if self.engine.dtype != dtype:
            raise UserError(f"{source} was exported as {self.engine.dtype}: export it with DTYPE={dtype}")

    @property
    def image_size(self):
        return self.engine.config.visual.image_size

    def vision(self, pixels):
        return self.engine.vision(pixels)

    def to_numpy(self, features):
        return to_float32(features)

    def synchronize(self):
        self.engine.synchronize()

    def release(self):
        if self.on_gpu:
            devices.release_memory()

    def versions(self):
        return {"paddle": paddle.__version__, **(devices.gpu_facts(self.engine.placement) if self.on_gpu else {})}

    def peak_memory(self):
        if self.on_gpu:
            return devices.peak_reserved_mib(self.engine.placement), "device memory reserved by paddle"
        return peak_resident_mib(), "resident memory of the process"


class PaddleArm(ExportedArm):
    def load_engine(self, source, device, weights=AUTO):
        """`weights`: the formats of matrices as infer.engine.Engine has them, "" those of the export."""
        engine = Engine(source, devices.placement(device), weights or Manifest(Path(source) / "language").dtype)
        self.weights = {"weights": engine.weights, "weights_bytes": engine.weights_bytes,
                        "decode_bytes": engine.step_bytes}
        return engine

    def preprocess(self, images):
        return self.engine.preprocess(images)

    def start(self, features):
        return self.engine.start(self.prompts, features, max_new_tokens=self.new_tokens)

    def generate(self, run):
        return self.generate_stepwise(run.prefill, run.tokens, run.step, run.tokens)

    def greedy_logits(self, run):
        run.prefill()
        logits = [run.logits()[:, -1]]
        for _ in range(self.new_tokens - 1):
            run.step()
            logits.append(run.logits()[:, -1])
        return run.tokens(), np.stack(logits, 1)

    def text_logits(self, ids):
        run = self.engine.start([ids], logit_columns=[range(len(ids))], max_new_tokens=1)
        run.prefill()
        return run.logits()[0]

    def stream(self):
        return devices.stream()

    def renew_caches(self):
        self.engine.replace_caches(paddle.rand)
