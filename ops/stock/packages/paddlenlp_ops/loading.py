"""Registers the operators with Paddle, or says why they cannot be used with it."""

import zlib  # noqa: F401  Paddle 2.6.2 corrupts a zlib that is loaded after it
from pathlib import Path

import paddle
from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

from paddlenlp_ops import target

LIBRARY = Path(__file__).with_name("libpaddlenlp_ops.so")


def load():
    """Register the operators; raises ImportError naming the remedy if they were built for another Paddle or CPU."""
    wheel = f"paddlepaddle{'-gpu' if paddle.is_compiled_with_cuda() else ''} {paddle.__version__}"
    fault = target.fault(target.read(LIBRARY), wheel)
    if fault:
        raise ImportError(f"{LIBRARY} {fault}: run `make ops` with this environment")
    try:
        load_op_meta_info_and_register_op(str(LIBRARY))
    except (OSError, RuntimeError, ValueError) as e:
        raise ImportError(f"{LIBRARY} does not load ({str(e).splitlines()[0]}): run `make ops` with this "
                          "environment") from None
