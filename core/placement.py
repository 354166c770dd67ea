"""Where a process computes: on what kind of device, on which one, and as which of the processes that share a model."""

from dataclasses import dataclass

DTYPES = {"cpu": ("float32",), "gpu": ("float16", "bfloat16", "float32")}  # kind -> types that it computes in
CHOICES = ("auto", *DTYPES)  # what a command line's --device may be; auto: a GPU where there is one


@dataclass(frozen=True)
class Placement:
    """A device, and the part of a model that it holds.

    kind: "cpu" or "gpu"; index: which of the GPUs that the process sees (CUDA_VISIBLE_DEVICES); rank: which of `world`
    processes this is, each with its shard of the weights (ops/sharding.py). Its text is what Paddle calls the device.
    """

    kind: str
    index: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self):
        if self.kind not in DTYPES or self.index < 0 or not 0 <= self.rank < self.world:
            raise ValueError(f"no such placement: {self!r}")

    def __str__(self):
        return f"gpu:{self.index}" if self.on_gpu else "cpu"

    @property
    def on_gpu(self):
        return self.kind == "gpu"

    @property
    def dtypes(self):
        """The types of weights that are computed with there."""
        return DTYPES[self.kind]


CPU = Placement("cpu")
