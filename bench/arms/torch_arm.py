"""The arms torch-eager and torch-sdpa: the baseline under transformers' generate()."""

import gc
import re
import time

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

from bench.arms.base import Arm, Generation, peak_resident_mib
from bench.torch_model.checkpoint import load_model


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


def linked_libraries(configuration):
    """The lines of torch's own account of itself that name numeric libraries inside it, which are no files."""
    return [line.strip(" -") for line in configuration.splitlines() if re.search("MKL|OpenMP|BLAS_INFO", line)
            and "CXX_FLAGS" not in line]


class TorchArm(Arm):
    def open(self, source, dtype, device, threads, attention, rounded_to=None):
        """`rounded_to` names a dtype that the weights are rounded to first: a reference for arms in that dtype."""
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if self.on_gpu else "cpu")
        if dtype == "float32":  # TF32 is no float32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.model = load_model(source, attention, getattr(torch, dtype), self.device,
                                getattr(torch, rounded_to) if rounded_to else None)

    @property
    def image_size(self):
        return self.model.geometry.visual.image_size

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

    def _new(self, sequences):
        return sequences[:, -self.new_tokens:].tolist()

    def to_numpy(self, features):
        return features.float().cpu().numpy()

    def synchronize(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def stream(self):
        return torch.cuda.current_stream().cuda_stream

    def release(self):
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def versions(self):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__,
                    "linked": linked_libraries(torch.__config__.show())}
        if self.on_gpu:
            versions |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version()),
                         "device_name": torch.cuda.get_device_name()}
        return versions

    def peak_memory(self):
        if self.on_gpu:
            return torch.cuda.max_memory_reserved() / 2**20, "device memory reserved by torch"
        return peak_resident_mib(), "resident memory of the process"
