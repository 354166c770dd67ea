"""The arm torch-compile: compiled blocks, a static KV cache, CUDA graphs, tokens read behind.

On a GPU it is compiled in every way of TUNINGS for the first case, and goes on with the one whose pass is shorter.
"""

import statistics
import time

import torch

from bench.arms.torch_arm import TorchArm
from bench.torch_model.quantised import quantise, step_bytes
from bench.torch_model.static import Captured, StaticGenerator, compile_blocks, compile_options, merge_gate_up

TRIALS = 3   # passes of each tuning


class TorchCompileArm(TorchArm):
    def open(self, source, dtype, device, threads, backend="inductor", weight_bits=0):
        """`weight_bits`: 8 or 4, of torchao's weights; 0 keeps them as they are."""
        super().open(source, "bfloat16" if weight_bits == 4 else dtype, device, threads, "sdpa")
        merge_gate_up(self.model)
        if weight_bits:
            quantise(self.model, weight_bits)
            self.weights = {"weights": f"int{weight_bits} (torchao)", "bits": weight_bits,
                            "decode_bytes": step_bytes(self.model)}
        self.tunings, self.used = compile_options(backend, self.device), None
        self.generator = self.encode = None

    @torch.no_grad()
    def compile(self):
        size = self.image_size
        self.pixels = torch.zeros(len(self.prompts), 3, size, size, device=self.device)
        made = {name: self._made(name) for name in self.tunings}
        if len(made) > 1:
            ms = {name: self._pass_ms(*of_name) for name, of_name in made.items()}
            best = min(ms, key=ms.get)
            self.chosen = f"{best}, " + ", ".join(f"{ms[name]:.1f} ms a pass by {name}" for name in ms)
            self.tunings = {best: self.tunings[best]}
        self.encode, self.generator = made[next(iter(self.tunings))]
        return True

    def _made(self, name):
        """Vision and generation of the case as one of the tunings compiles them."""
        options = self.tunings[name]
        if self.used != name:
            compile_blocks(self.model, **options)
            self.used = name
        pool = torch.cuda.graph_pool_handle() if self.on_gpu else None
        return (Captured(lambda: self.model.transformer.visual(self.pixels), self.device, pool),
                StaticGenerator(self.model, self.prompts, self.new_tokens, pool, **options))

    def _pass_ms(self, encode, generator):
        """Median time of everything that is compiled."""
        times = []
        for _ in range(TRIALS):
            self.synchronize()
            start = time.perf_counter()
            generator.features.copy_(encode())
            generator.prefill()
            for _ in range(self.new_tokens - 1):
                generator.decode()
            self.synchronize()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

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
        return self.generate_stepwise(generator.prefill, generator.next.tolist, generator.decode,
                                      generator.generated.tolist)

    @torch.no_grad()
    def greedy_logits(self, generator):
        logits = [generator.prefill().float().cpu()]
        for _ in range(self.new_tokens - 1):
            logits.append(generator.decode().float().cpu())
        return generator.generated.tolist(), torch.stack(logits, 1).numpy()

    def release(self):
        self.generator = self.encode = None
        super().release()
