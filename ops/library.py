"""The compiled operator library: where it is, which version it is, and its registration with Paddle."""

import ctypes
import functools
import os
from pathlib import Path

from core.errors import UserError
from ops.framework import import_paddle

LIBRARY = Path("build/ops/cpu/libqwen_vl_ops.so")


def path():
    """The library's file: $QWEN_VL_OPS, else build/ops/cpu in this repository; raises UserError if it is not built."""
    library = Path(os.environ.get("QWEN_VL_OPS") or Path(__file__).resolve().parent.parent / LIBRARY)
    if not library.is_file():
        raise UserError(f"the operator library {library} is not built: run `make ops`")
    return library


@functools.cache
def load():
    """Register the operators with Paddle, once per process, and return the library's version."""
    import_paddle()
    from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

    library = path()
    try:
        load_op_meta_info_and_register_op(str(library))
        return version()
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"cannot load {library} ({str(e).splitlines()[0]}): run `make ops` again") from None


def version():
    """The version that the library was compiled with: a hash of its sources."""
    import_paddle()  # the library's own dependencies are Paddle's
    function = ctypes.CDLL(str(path())).qwen_vl_ops_version
    function.restype = ctypes.c_char_p
    return function().decode()
