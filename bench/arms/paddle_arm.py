"""The arms paddle-native and paddle-fused: infer.engine on an exported folder."""

import time

import numpy as np

from bench.arms.base import Arm, Generation, peak_resident_mib
from core.errors import UserError
from infer.engine import Engine, to_float32
from ops.framework import devices, import_paddle

paddle = import_paddle()


class PaddleArm(Arm):
    def open(self, source, dtype, device, threads):
        placement = devices.placement(device)
        self.engine = Engine(source, placement)  # takes its threads from OMP_NUM_THREADS, which the run sets
        if self.engine.dtype != dtype:
            raise UserError(f"{source} was exported as {self.engine.dtype}: export it with DTYPE={dtype}")
        self.weights = {"weights": self.engine.weights, "weights_bytes": self.engine.weights_bytes,
                        "decode_bytes": self.engine.step_bytes}

    @property
    def image_size(self):
        return self.engine.config.visual.image_size

    def preprocess(self, images):
        return self.engine.preprocess(images)

    def vision(self, pixels):
        return self.engine.vision(pixels)

    def start(self, features):
        return self.engine.start(self.prompts, features, max_new_tokens=self.new_tokens)

    def generate(self, run):
        self.begin("prefill")
        run.prefill()
        self.end("prefill")
        run.tokens()
        times, launches = [time.perf_counter()], []
        self.begin("decode")
        for _ in range(self.new_tokens - 1):
            self.begin("step")
            start = time.perf_counter()
            run.step()
            times.append(time.perf_counter())
            self.end("step")
            launches.append(times[-1] - start)
        self.end("decode")
        tokens = run.tokens()
        last = time.perf_counter()
        if not self.on_gpu:
            return Generation(tokens, times[0], last, times)
        return Generation(tokens, times[0], last, None, launches)  # steps were only launched

    def greedy_logits(self, run):
        run.prefill()
        logits = [run.logits()[:, -1]]
        for _ in range(self.new_tokens - 1):
            run.step()
            logits.append(run.logits()[:, -1])
        return run.tokens(), np.stack(logits, 1)

    def to_numpy(self, features):
        return to_float32(features)

    def synchronize(self):
        self.engine.synchronize()

    def stream(self):
        return devices.stream()

    def release(self):
        if self.on_gpu:
            devices.release_memory()

    def renew_caches(self):
        self.engine.replace_caches(paddle.rand)

    def versions(self):
        facts = devices.gpu_facts(self.engine.placement) if self.on_gpu else {}
        return {"paddle": paddle.__version__, **facts}

    def peak_memory(self):
        if self.on_gpu:
            return devices.peak_reserved_mib(self.engine.placement), "device memory reserved by paddle"
        return peak_resident_mib(), "resident memory of the process"
