"""The arms of the comparison. Each runs in a worker process of its own, with its framework's interpreter."""

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ArmSpec:
    """How to start an arm: its class, the framework whose interpreter it needs, what its load() takes from the run."""

    name: str
    framework: str            # "torch" | "paddle"
    target: str               # "module:Class"
    source: str               # the run's option that names its weights: "checkpoint" | "exported_native" | …
    options: dict = field(default_factory=dict)
    devices: tuple = ("cpu", "gpu")   # where it is among the arms unless they are named
    root: str = str(ROOT)             # the tree whose code runs it
    environment: dict = field(default_factory=dict)   # added to its worker's
    gpu_only: str = ""        # why it runs on no CPU


ARMS = {spec.name: spec for spec in (
    ArmSpec("torch-eager", "torch", "bench.arms.torch_arm:TorchArm", "checkpoint", {"attention": "eager"}),
    ArmSpec("torch-sdpa", "torch", "bench.arms.torch_arm:TorchArm", "checkpoint", {"attention": "sdpa"}),
    ArmSpec("torch-compile", "torch", "bench.arms.torch_compile_arm:TorchCompileArm", "checkpoint", devices=("gpu",)),
    ArmSpec("paddle-native", "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_native"),
    ArmSpec("paddle-fused", "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_fused"),
    ArmSpec("paddle-stock", "paddle", "bench.arms.stock_arm:StockArm", "exported_stock", devices=(),
            gpu_only="Paddle has no CPU kernels for the stock graph's operators"),
)}
BASELINES = ("torch-eager", "torch-sdpa", "torch-compile")   # speed-ups are against these
GATE_ARM = "torch-eager"   # in float32 the reference of half-precision runs; its own error there is the scale


def default_arms(device):
    """Names of the arms that a run on "cpu" or "gpu" has unless told otherwise."""
    return [name for name, spec in ARMS.items() if device in spec.devices]
