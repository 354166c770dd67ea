"""The arms torch-eager and torch-sdpa: the baseline under transformers' generate()."""

import time

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

from bench.arms.base import Generation
from bench.arms.torch_base import TorchBase
from bench.torch_model.model import load_model


class TokenClock(BaseStreamer):
    """Notes when each step's tokens have reached the host; generate() hands it the prompt first."""

    def __init__(self, arm):
        self.arm, self.times = arm, []

    def put(self, _):
        self.times.append(time.perf_counter())
        if len(self.times) == 2:
            self.arm.end("prefill")
            self.arm.begin("decode")
        if len(self.times) > 1:
            self.arm.end("step")
            self.arm.begin("step")

    def end(self):
        self.arm.end("decode")


class TorchArm(TorchBase):
    def open(self, source, dtype, device, threads, attention, rounded_to=None, quantised_to=None):
        """`rounded_to` names a dtype that the weights are rounded to first: a reference for arms in that dtype;
        `quantised_to` a format of ops.formats that the matrices are rounded to after that, one for arms in that."""
        self.use(threads, dtype)
        self.model = load_model(source, attention, getattr(torch, dtype), self.device,
                                getattr(torch, rounded_to) if rounded_to else None, quantised_to)

    def vision(self, pixels):
        return self.model.encode(torch.from_numpy(pixels).to(self.device))

    def start(self, features):
        return torch.tensor(self.prompts), features  # sending it here would wait for the device

    def _generate(self, started, **options):
        prompts, features = started
        ids = prompts.to(self.device)
        return self.model.generate(ids, attention_mask=torch.ones_like(ids), image_features=features,
                                   do_sample=False, max_new_tokens=self.new_tokens, **options)

    def generate(self, started):
        clock = TokenClock(self)
        self.begin("prefill")
        sequences = self._generate(started, streamer=clock)
        return Generation(self._new(sequences), clock.times[1], clock.times[-1])

    def greedy_logits(self, started):
        out = self._generate(started, output_logits=True, return_dict_in_generate=True)
        return self._new(out.sequences), torch.stack(out.logits, 1).float().cpu().numpy()

    @torch.inference_mode()
    def text_logits(self, ids):
        return self.model(torch.tensor([ids], device=self.device)).logits[0].float().cpu().numpy()

    def _new(self, sequences):
        return sequences[:, -self.new_tokens:].tolist()

    def versions(self):
        return {**super().versions(), "transformers": transformers.__version__}
