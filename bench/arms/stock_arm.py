"""The arm paddle-stock: paddlenlp's own language graph, which runs a whole generation in one call."""

from bench.arms.base import Generation
from bench.arms.paddle_arm import ExportedArm
from infer.stock import StockEngine


class StockArm(ExportedArm):
    def load_engine(self, source, device):
        return StockEngine(source, device)

    def generate(self, features):
        tokens, times = self.engine.generate(self.prompts, features, self.new_tokens)
        return Generation(tokens.tolist(), times[0], times[-1])

    def greedy_logits(self, features):
        """The graph keeps its logits: the gate compares what there is."""
        return self.engine.generate(self.prompts, features, self.new_tokens)[0].tolist(), None

    def versions(self):
        import paddlenlp_ops

        return {**super().versions(), "paddlenlp_ops": paddlenlp_ops.__version__}
