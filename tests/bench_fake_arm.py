"""An arm without a framework, for the tests of workers, gate and runs: instant, deterministic, fails on order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.arms.base import Arm, Generation
from bench.device_clock import DeviceClock
from tests.bench_fake_driver import FakeDriver

VOCABULARY, WIDTH = 32, 8
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


class FakeArm(Arm):
    """`offset` is added to its logits; `trouble` is one of the keys of _trouble, raised at the moment it names.

    In half precision its outputs are off by up to `half_error`. `diary` is a file that gets the arm's name for every
    pass it makes. `driver` names a call of FakeDriver that fails; the arm then is on a GPU, as it is with "none".
    `weights` is what it says of them.
    """

    def open(self, source, dtype, device, threads, name="fake", offset=0.0, trouble="", diary="", half_error=1e-3,
             rounded_to="", driver="", weights=None):
        self.half_error = half_error if dtype != "float32" else 0.0
        self.name, self.offset, self.trouble, self.diary = name, offset, trouble, diary
        self.passes, self.driver = 0, FakeDriver(driver) if driver else None
        self.weights = weights or {}
        self._trouble("load")
        os.write(1, b"a library prints to stdout\n")

    def _trouble(self, moment):
        if self.trouble == f"killed at {moment}":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == f"error at {moment}":
            raise RuntimeError("the kernel of this test does not exist\nsecond line")
        if self.trouble == f"memory at {moment}":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.trouble == f"hangs at {moment}":
            signal.pause()
        if self.trouble == f"children at {moment}":   # one stays in the worker's session; none heeds SIGTERM
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.children = [subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=leaves,
                                              stdout=subprocess.PIPE) for leaves in (False, True)]
            for child in self.children:
                child.stdout.readline()

    def prepare(self, image, prompts, new_tokens):
        prepared = super().prepare(image, prompts, new_tokens)
        if self.driver:
            self.clock = DeviceClock(lambda: 0, self.driver)
        return prepared

    def _work(self, ms):
        if self.driver:
            self.driver.work(ms)

    @property
    def image_size(self):
        return 14

    def vision(self, pixels):
        return np.full([len(pixels), 4, WIDTH], pixels.mean() + self.half_error, np.float32) + np.arange(
            WIDTH, dtype=np.float32)

    def greedy_logits(self, started):
        self._trouble(f"batch {len(self.prompts)}")
        shape = [self.new_tokens, VOCABULARY]
        logits = np.random.default_rng(0).normal(size=shape) + self.offset * np.arange(VOCABULARY)
        logits += self.half_error * np.random.default_rng(1).uniform(-1, 1, size=shape)
        logits = np.stack([logits] * len(self.prompts)).astype(np.float32)
        if self.trouble == "other rows" and len(logits) > 1:
            logits[1, 1] = -logits[1, 1]
        if self.trouble == "tie":   # the passes take the second best, which is as good
            best, second = logits[0, 0].argsort()[[-1, -2]]
            logits[:, 0, second] = logits[:, 0, best] - np.float32(1e-6)
            self.second = int(second)
        return logits.argmax(-1).tolist(), logits

    def generate(self, started):
        self.passes += 1
        if self.diary:
            with open(self.diary, "a", encoding="utf-8") as f:
                f.write(f"{self.name}\n")
        self._trouble(f"pass {self.passes}")
        tokens, _ = self.greedy_logits(started)
        if self.trouble in ("changes its mind", f"wrong in pass {self.passes}"):
            tokens[0][0] += 1
        if self.trouble == "wrong at the end" and self.new_tokens == 9:
            tokens[0][8] += 1
        if self.trouble == "tie":
            tokens[0][0] = self.second
        self.begin("prefill")
        self._work(20)
        self.end("prefill")
        first = time.perf_counter()
        self.begin("decode")
        for _ in range(self.new_tokens - 1):
            self.begin("step")
            self._work(4)
            self.end("step")
        self.end("decode")
        return Generation(tokens, first, time.perf_counter())

    def to_numpy(self, features):
        return features

    def synchronize(self):
        pass

    def versions(self):
        return {"fake": Path(__file__).name, "variables": [os.environ.get(name) for name in ("BENCH_A", "BENCH_B")]}

    def peak_memory(self):
        return 1.0, "what the test says"
