"""The compiled operator library: where it is, whether it is for this machine, and its registration with Paddle."""

import ctypes
import functools
import os
from pathlib import Path

from core.errors import UserError
from core.placement import CPU
from ops import target
from ops.framework import devices, operators, wheel

LIBRARY = Path("build/ops/cpu/libqwen_vl_ops.so")


def path():
    """The library's file: $QWEN_VL_OPS, else build/ops/cpu in this repository; raises UserError if it is not built."""
    library = Path(os.environ.get("QWEN_VL_OPS") or Path(__file__).resolve().parent.parent / LIBRARY)
    if not library.is_file():
        raise UserError(f"the operator library {library} is not built: run `make ops`")
    return library


@functools.cache
def built_for(placement=CPU):
    """What the library was built for, see ops.build.describe; raises UserError unless it runs there."""
    library = path()
    built = target.read(library)
    fault = target.fault(built, wheel(), devices.capability(placement))
    if fault:
        raise UserError(f"{library} {fault}: run `make ops{' DEVICE=gpu' * placement.on_gpu}`")
    return built


def load(placement=CPU):
    """Register the operators with Paddle, once per process, and return the library's version; see `built_for`."""
    loaded = version(placement)
    _register()
    return loaded


@functools.cache
def _register():
    try:
        operators.register(path())
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"cannot load {path()} ({str(e).splitlines()[0]}): run `make ops` again") from None


def version(placement=CPU):
    """The version that the library was compiled with: a hash of its sources."""
    return built_for(placement)["sources"]


@functools.cache
def kernels():
    """The library's C functions; those of CUDA kernels are not there if it was built for the CPU."""
    return ctypes.CDLL(str(path()))


def check_waits():
    """Raise UserError if a kernel that has ended since the last call gave up a wait (docs/waits.md): its results are
    wrong. What follows is not concerned. Costs a look at memory."""
    library = kernels()
    if hasattr(library, "qwen_vl_gave_up") and (status := library.qwen_vl_gave_up()):
        library.qwen_vl_status_text.restype = ctypes.c_char_p
        text = library.qwen_vl_status_text(status).decode()
        raise UserError(f"a kernel gave up, and what it computed is lost: {text}; this is a defect, please report it "
                        "with this line; the next call begins anew")
