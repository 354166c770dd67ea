"""The arm paddle-stock: paddlenlp's own language graph, which runs a whole generation in one call."""

from bench.arms.base import Arm, Generation
from core.errors import UserError
from infer.engine import to_float32
from infer.stock import StockEngine
from ops.framework import devices, import_paddle

paddle = import_paddle()


class StockArm(Arm):
    def open(self, source, dtype, device, threads):
        self.engine = StockEngine(source, device)
        if self.engine.dtype != dtype:
            raise UserError(f"{source} was exported as {self.engine.dtype}: export it with DTYPE={dtype}")

    @property
    def image_size(self):
        return self.engine.config.visual.image_size

    def vision(self, pixels):
        return self.engine.vision(pixels)

    def generate(self, features):
        tokens, times = self.engine.generate(self.prompts, features, self.new_tokens)
        return Generation(tokens.tolist(), times[0], times[-1], times)

    def greedy_logits(self, features):
        """The graph keeps its logits: the gate compares what there is."""
        return self.engine.generate(self.prompts, features, self.new_tokens)[0].tolist(), None

    def to_numpy(self, features):
        return to_float32(features)

    def synchronize(self):
        self.engine.synchronize()

    def release(self):
        devices.release_memory()

    def versions(self):
        import paddlenlp_ops

        return {"paddle": paddle.__version__, "paddlenlp_ops": paddlenlp_ops.__version__,
                **devices.gpu_facts(self.engine.placement)}

    def peak_memory(self):
        return devices.peak_reserved_mib(self.engine.placement), "device memory reserved by paddle"
