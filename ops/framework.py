"""Imports Paddle with what must be there before it is loaded: every module gets it from here."""

import importlib.metadata
import os
import sys

from core.errors import UserError
from ops import cuda_libraries


def has_gpu_wheel():
    """Whether this interpreter has Paddle's GPU wheel."""
    try:
        return bool(importlib.metadata.version("paddlepaddle-gpu"))
    except importlib.metadata.PackageNotFoundError:
        return False


def import_paddle():
    """Import Paddle with the settings and the libraries that it needs before it is loaded, and return it."""
    if sys.flags.optimize > 1:
        raise UserError("Paddle cannot be imported without docstrings: unset PYTHONOPTIMIZE, leave out python's -OO")
    import zlib  # noqa: F401  Paddle 2.6.2 corrupts a zlib that is loaded after it

    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")  # else MKL takes its slow path on AMD processors
    os.environ.setdefault("GLOG_minloglevel", "2")
    if has_gpu_wheel():
        cuda_libraries.serve()
    threads = os.environ.pop("OMP_NUM_THREADS", None)  # Paddle warns of it and sets its own; a Graph sets cpu_threads()
    import paddle

    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = threads
    return paddle
