"""A Paddle arm that takes longer in one stage, for the tests and trials of verdicts."""

import time

from bench.arms.paddle_arm import PaddleArm


class SlowArm(PaddleArm):
    """`share` of what `stage` ("vision" or "decode") takes is burnt on top of it, in the same pass; nothing else is
    changed. Of a decode on a GPU, whose steps the host only launches, it is burnt at the end."""

    def open(self, source, dtype, device, threads, stage="vision", share=0.0):
        super().open(source, dtype, device, threads)
        self.stage, self.share = stage, share

    def _burn(self, since):
        now = time.perf_counter()
        while time.perf_counter() < now + self.share * (now - since):
            pass

    def vision(self, pixels):
        start = time.perf_counter()
        features = super().vision(pixels)
        if self.stage == "vision":
            self.synchronize()
            self._burn(start)
        return features

    def generate_stepwise(self, prefill, first_token, step, tokens):
        decoding = []

        def first():
            known = first_token()
            decoding.append(time.perf_counter())
            return known

        def slow_step():
            start = time.perf_counter()
            step()
            self._burn(start)

        def all_tokens():
            made = tokens()
            self._burn(decoding[0])
            return made
        if self.stage != "decode":
            return super().generate_stepwise(prefill, first_token, step, tokens)
        if self.on_gpu:
            return super().generate_stepwise(prefill, first, step, all_tokens)
        return super().generate_stepwise(prefill, first_token, slow_step, tokens)
