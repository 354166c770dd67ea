"""Paddle's devices: which there are, the default one, what is known of a GPU, and waiting for it."""

import contextlib
import functools

from core.errors import UserError
from core.placement import CHOICES, CPU, Placement
from ops.framework import import_paddle


def has_gpu():
    """Whether the wheel can use a GPU and sees one."""
    paddle = import_paddle()
    return paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0


def placement(device):
    """The Placement that DEVICE= means: "cpu", "gpu", or "auto" for a GPU where wheel and machine have one.

    Raises UserError for anything else, and for a GPU that is not there.
    """
    if device not in CHOICES:
        raise UserError(f"there is no device {device!r}: one of {', '.join(CHOICES)}")
    if device == "gpu" and not has_gpu():
        raise UserError("DEVICE=gpu needs an NVIDIA GPU and the paddlepaddle-gpu wheel: run `make doctor`")
    return Placement("gpu") if device == "gpu" or device == "auto" and has_gpu() else CPU


@functools.cache
def place(placement):
    """Paddle's own object for a placement."""
    paddle = import_paddle()
    return paddle.CUDAPlace(placement.index) if placement.on_gpu else paddle.CPUPlace()


def use(placement):
    """Make it the default device: tensors without a place are made there, operators without inputs run there."""
    import_paddle().set_device(str(placement))


@contextlib.contextmanager
def using(placement):
    """It is the default device meanwhile."""
    paddle = import_paddle()
    default = paddle.get_device()
    use(placement)
    try:
        yield
    finally:
        paddle.set_device(default)


def capability(placement):
    """Compute capability of the GPU, (major, minor); None for the CPU."""
    return import_paddle().device.cuda.get_device_capability(placement.index) if placement.on_gpu else None


def gpu_facts(placement):
    """{"device_name", "cuda", "cudnn"}: the GPU's name, and the versions that the wheel was made with."""
    paddle = import_paddle()
    return {"cuda": paddle.version.cuda(), "cudnn": paddle.version.cudnn(),
            "device_name": paddle.device.cuda.get_device_name(placement.index)}


def peak_reserved_mib(placement):
    """The most MiB of the GPU's memory that Paddle's allocator has held."""
    return import_paddle().device.cuda.max_memory_reserved(placement.index) / 2**20


def stream():
    """The CUDA stream that Paddle launches on, as an integer."""
    return import_paddle().device.cuda.current_stream().cuda_stream


def synchronize():
    """Wait until the default GPU has done what was launched."""
    import_paddle().device.cuda.synchronize()


def release_memory():
    """Give back the GPU memory that Paddle's allocator holds in reserve."""
    import_paddle().device.cuda.empty_cache()
