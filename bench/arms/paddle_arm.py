"""The arms paddle-native and paddle-fused: infer.engine on an exported folder."""

import numpy as np

from bench.arms.base import Arm, peak_resident_mib
from core.errors import UserError
from infer.engine import Engine, to_float32
from ops.framework import import_paddle

paddle = import_paddle()


class ExportedArm(Arm):
    """What the arms on exported graphs of Paddle's have in common; `Engine` loads the folder."""

    Engine = None

    def open(self, source, dtype, device, threads):
        self.engine = self.Engine(source, device)  # takes its threads from OMP_NUM_THREADS, which the run sets
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
            paddle.device.cuda.empty_cache()

    def versions(self):
        versions = {"paddle": paddle.__version__}
        if self.on_gpu:
            versions |= {"cuda": paddle.version.cuda(), "cudnn": paddle.version.cudnn(),
                         "device_name": paddle.device.cuda.get_device_name()}
        return versions

    def peak_memory(self):
        if self.on_gpu:
            return paddle.device.cuda.max_memory_reserved() / 2**20, "device memory reserved by paddle"
        return peak_resident_mib(), "resident memory of the process"


class PaddleArm(ExportedArm):
    Engine = Engine

    def open(self, *args):
        super().open(*args)
        self.weights = self.engine.weights

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

    def stream(self):
        return paddle.device.cuda.current_stream().cuda_stream

    def renew_caches(self):
        self.engine.replace_caches(paddle.rand)
