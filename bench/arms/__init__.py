"""The arms of the comparison. Each runs in a worker process of its own, with its framework's interpreter.

A new arm is a file here with a class that fills in bench.arms.base.Arm, and a line in ARMS: the command line, tables,
plots and the history follow from it.
"""

from dataclasses import dataclass, field, replace

from bench.git import ROOT
from infer.formats import AUTO
from ops import formats


@dataclass(frozen=True)
class ArmSpec:
    """How to start an arm: its class, the framework whose interpreter it needs, what its load() takes from the run."""

    name: str
    framework: str            # whose interpreter and environment it gets: --<framework>-python, --<framework>-env
    target: str               # "module:Class"
    source: str               # the run's option that names its weights: "checkpoint" | "exported_native" | …
    options: dict = field(default_factory=dict)
    baseline: bool = False    # whether speed-ups are against it as well
    devices: tuple = ("cpu", "gpu")   # where it is among the arms unless they are named
    root: str = str(ROOT)             # the tree whose code runs it
    environment: dict = field(default_factory=dict)   # added to its worker's
    gpu_only: str = ""        # why it runs on no CPU
    lossy: str = ""           # what it loses that others keep: it stands in a table of its own, with how far it is off
    rounds_to: str = ""       # the format of ops.formats that it rounds to, over whose numbers its arithmetic is judged
    optional: bool = False    # whether it is left out unless named, or its framework's interpreter is
    host_paced: bool = False  # whether on a GPU its time is that of the host's launches, another on every host


VLLM = {  # in one process, without a network, greedy sampling without FlashInfer's kernels
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
ARMS = {spec.name: spec for spec in (
    ArmSpec("torch-eager", "torch", "bench.arms.torch_arm:TorchArm", "checkpoint", {"attention": "eager"},
            baseline=True, host_paced=True),
    ArmSpec("torch-sdpa", "torch", "bench.arms.torch_arm:TorchArm", "checkpoint", {"attention": "sdpa"},
            baseline=True, host_paced=True),
    ArmSpec("torch-compile", "torch", "bench.arms.torch_compile_arm:TorchCompileArm", "checkpoint", devices=("gpu",),
            baseline=True),
    ArmSpec("torch-compile-int8", "torch", "bench.arms.torch_compile_arm:TorchCompileArm", "checkpoint",
            {"weight_bits": 8}, devices=(),
            lossy="decoder's and head's matrices in 8 bits, a scale a row (torchao int8)"),
    ArmSpec("torch-compile-int4", "torch", "bench.arms.torch_compile_arm:TorchCompileArm", "checkpoint",
            {"weight_bits": 4}, devices=(), gpu_only="torchao's int4 product is a kernel for GPUs",
            lossy="decoder's and head's matrices in 4 bits, groups of 128 (torchao int4), computed in bfloat16"),
    ArmSpec("vllm", "vllm", "bench.arms.vllm_arm:VllmArm", "checkpoint", devices=("gpu",), optional=True,
            baseline=True, environment=VLLM),
    ArmSpec("vllm-fp8", "vllm", "bench.arms.vllm_arm:VllmArm", "checkpoint", {"quantization": "fp8"}, devices=("gpu",),
            optional=True, environment=VLLM,
            lossy="the layers' matrices and their activations are rounded to 8 bits (vLLM's fp8)"),
    ArmSpec("paddle-native", "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_native"),
    ArmSpec("paddle-fused", "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_fused"),
    ArmSpec("paddle-other", "paddle_other", "bench.arms.paddle_arm:PaddleArm", "exported_other", optional=True),
    ArmSpec("paddle-fused-16bit", "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_fused", {"weights": ""},
            devices=("gpu",), gpu_only="the CPU keeps weights as exported, so paddle-fused is the same there"),
    ArmSpec("paddle-stock", "paddle", "bench.arms.stock_arm:StockArm", "exported_stock", devices=(),
            gpu_only="Paddle has no CPU kernels for the stock graph's operators"),
)}
QUANTISED = {format.name: f"paddle-fused-{format.name}" for format in formats.quantised()}   # format -> its arm
ARMS |= {arm: ArmSpec(arm, "paddle", "bench.arms.paddle_arm:PaddleArm", "exported_fused", {"weights": name}, devices=(),
                      lossy=f"matrices in {formats.get(name).description}", rounds_to=name)
         for name, arm in QUANTISED.items()}
LOSSY = tuple(name for name, spec in ARMS.items() if spec.lossy)
HOST_PACED = tuple(name for name, spec in ARMS.items() if spec.host_paced)
BASELINES = tuple(name for name, spec in ARMS.items() if spec.baseline)
GATE_ARM = "torch-eager"   # in float32 the reference of half-precision runs; its own error there is the scale


def fused(weights):
    """The arm of the fused graphs with matrices in a format: "auto", one that rounds, or the run's type."""
    if weights in QUANTISED:
        return ARMS[QUANTISED[weights]]
    spec = ARMS["paddle-fused"]
    return spec if weights == AUTO else replace(spec, options={"weights": weights})


def in_order(names):
    """A collection of arms' names in the registry's order; those that it does not have come after, as they are."""
    return sorted(names, key=[*ARMS, *(name for name in names if name not in ARMS)].index)


def default_arms(device, frameworks=()):
    """Names of the arms that a run on "cpu" or "gpu" has unless told otherwise; `frameworks` are those whose
    interpreters were named."""
    return tuple(name for name, spec in ARMS.items() if device in spec.devices
                 and (not spec.optional or spec.framework in frameworks))
