"""Every call of Paddle's that is private or differs from version to version, and what each of them works around.

All other code asks here and itself calls nothing of Paddle's but what computes: `paddle.matmul` and its like, and
`paddle.nn.functional` (tests/test_private_calls.py). What Paddle's next version wants otherwise belongs here.

import_paddle     the module, with what must be there before it
own               what the versions do differently: paddle2 or paddle3, modules of the same names
paddle2, paddle3  programs, in-place operators, the predictor's switches, as each version has them
devices           which there are, their limits, waiting for them
tensors           memory: copies, writes and views without a kernel
operators         a compiled library's operators: registered, run, put into programs
programs          static programs and files of parameters: built, written, read
predictor         Paddle Inference and its switches

Tried: 2.6.2 on the CPU and, with its GPU wheel, on NVIDIA GPUs; 3.3.1 on the CPU.
"""

import functools
import importlib
import importlib.metadata
import os
import sys
import warnings

from core.errors import UserError
from ops import cuda_libraries


def has_gpu_wheel():
    """Whether this interpreter has Paddle's GPU wheel."""
    try:
        return bool(importlib.metadata.version("paddlepaddle-gpu"))
    except importlib.metadata.PackageNotFoundError:
        return False


@functools.cache
def import_paddle():
    """Import Paddle with the settings and the libraries that it needs before it is loaded, and return it.

    2.6.2 corrupts a zlib that is loaded after it; its GPU wheel opens CUDA's libraries by bare names and brings none.
    3.3.1 warns of a missing ccache, which would speed up builds of Paddle's own that are not used here.
    """
    if sys.flags.optimize > 1:
        raise UserError("Paddle cannot be imported without docstrings: unset PYTHONOPTIMIZE, leave out python's -OO")
    import zlib  # noqa: F401

    os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")  # else MKL takes its slow path on AMD processors
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore", "No ccache found")
    if has_gpu_wheel():
        cuda_libraries.serve()
    threads = os.environ.pop("OMP_NUM_THREADS", None)  # Paddle warns of it and sets its own; a Graph sets cpu_threads()
    import paddle

    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = threads
    return paddle


@functools.cache
def own():
    """The module of what this version of Paddle does in its own way; raises UserError for one that is not known."""
    version = import_paddle().__version__
    name = {"2": "paddle2", "3": "paddle3"}.get(version.partition(".")[0])
    if name is None:
        raise UserError(f"Paddle {version} is none of those that this works with, 2.6 and 3.3: run `make setup`")
    return importlib.import_module(f"ops.framework.{name}")


def wheel():
    """The wheel's name and version, as a library says what it was built for: "paddlepaddle-gpu 2.6.2"."""
    paddle = import_paddle()
    return f"paddlepaddle{'-gpu' if paddle.is_compiled_with_cuda() else ''} {paddle.__version__}"
