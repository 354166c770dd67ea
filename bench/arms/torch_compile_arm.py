"""The arm torch-compile: compiled blocks, a static KV cache, CUDA graphs, tokens read behind."""

import torch

from bench.arms.torch_arm import TorchArm
from bench.torch_model.static import Captured, StaticGenerator, compile_blocks, compile_options


class TorchCompileArm(TorchArm):
    def open(self, source, dtype, device, threads, backend="inductor"):
        super().open(source, dtype, device, threads, "sdpa")
        self.options = compile_options(backend, self.device)
        compile_blocks(self.model, **self.options)
        self.generator = self.encode = None

    @torch.no_grad()
    def compile(self):
        size = self.image_size
        pool = torch.cuda.graph_pool_handle() if self.on_gpu else None
        self.pixels = torch.zeros(len(self.prompts), 3, size, size, device=self.device)
        self.encode = Captured(lambda: self.model.transformer.visual(self.pixels), self.device, pool)
        self.generator = StaticGenerator(self.model, self.prompts, self.new_tokens, pool, **self.options)
        return True

    @torch.no_grad()
    def vision(self, pixels):
        self.pixels.copy_(torch.from_numpy(pixels))
        return self.encode()

    @torch.no_grad()
    def start(self, features):
        self.generator.features.copy_(features)
        return self.generator

    @torch.no_grad()
    def generate(self, generator):
        return self.generate_stepwise(generator.prefill, generator.next.tolist, lambda: generator.decode(),
                                      generator.generated.tolist)  # there is no `decode` for one token

    @torch.no_grad()
    def greedy_logits(self, generator):
        logits = [generator.prefill().float().cpu()]
        for _ in range(self.new_tokens - 1):
            logits.append(generator.decode().float().cpu())
        return generator.generated.tolist(), torch.stack(logits, 1).numpy()

    def release(self):
        self.generator = self.encode = None
        super().release()
