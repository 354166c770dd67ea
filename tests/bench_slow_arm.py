"""A Paddle arm that takes longer in one stage, for the tests of verdicts."""

import time

from bench.arms.paddle_arm import PaddleArm


class SlowArm(PaddleArm):
    """`share` of what the vision stage takes is burnt on top of it, in the same pass; nothing else is changed."""

    def open(self, source, dtype, device, threads, share=0.0):
        super().open(source, dtype, device, threads)
        self.share = share

    def vision(self, pixels):
        start = time.perf_counter()
        features = super().vision(pixels)
        self.synchronize()
        end = time.perf_counter() + self.share * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return features
