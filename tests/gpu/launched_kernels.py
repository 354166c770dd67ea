"""Names of the kernels that the self-check and a model of the 7B geometry launch on this machine's GPU, as JSON.

    python -m tests.gpu.launched_kernels FORMAT

Every launch goes through the driver, and CUPTI's callbacks name its kernel there: nothing in the kernels takes part.
Replays of CUDA graphs are not seen, so each call is one that was not recorded. CUPTI's library comes with PyTorch (its
nvidia-cuda-cupti): it is looked for in this interpreter's packages and in those of $TORCH_PYTHON.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

NO_CUPTI = 3  # status where there is none
DRIVER_API = 1  # CUpti_CallbackDomain


class CallbackData(ctypes.Structure):
    """The beginning of CUpti_CallbackData."""

    _fields_ = [("site", ctypes.c_int), ("function", ctypes.c_char_p), ("parameters", ctypes.c_void_p),
                ("result", ctypes.c_void_p), ("symbol", ctypes.c_char_p)]


Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(CallbackData))


def find_cupti():
    """CUPTI's library, or None."""
    folders = [Path(folder) for folder in sys.path]
    torch_python = os.environ.get("TORCH_PYTHON")
    if torch_python:
        done = subprocess.run([torch_python, "-c", "import sys; print(*sys.path, sep='\\n')"], capture_output=True,
                              text=True)
        folders += [Path(folder) for folder in done.stdout.splitlines()]
    libraries = [path for folder in folders for path in folder.glob("nvidia/*/lib/libcupti.so.1[123]*")]
    for name in [*map(str, libraries), "libcupti.so.13", "libcupti.so.12"]:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


@contextlib.contextmanager
def launches(cupti):
    """Yields a set, to which the names of all kernels launched meanwhile are added."""
    names, subscriber = set(), ctypes.c_void_p()

    @Callback
    def note(user, domain, identifier, data):
        called = data.contents
        if called.function.startswith(b"cuLaunch") and called.symbol:
            names.add(called.symbol.decode())

    for status in (cupti.cuptiSubscribe(ctypes.byref(subscriber), note, None),
                   cupti.cuptiEnableDomain(1, subscriber, DRIVER_API)):
        if status:
            raise RuntimeError(f"CUPTI failed with status {status}")
    try:
        yield names
    finally:
        cupti.cuptiUnsubscribe(subscriber)


def run_model(layers, format):
    """What an engine does: on loading, with a picture, prompts of several lengths, steps of few and many rows."""
    from tests.gpu.published import Model

    model = Model(layers, format)
    model.tune()
    model.image()
    for batch, columns in ((1, 5), (1, 40), (1, 286), (1, 1000), (3, 100)):
        model.call(batch, columns)
    for batch in (*range(1, 9), 16):
        model.call(batch, 1, 20)
        model.call(batch, 1, 21, True)


def main():
    format = sys.argv[1]
    cupti = find_cupti()
    if cupti is None:
        sys.exit(NO_CUPTI)
    from core.placement import Placement
    from ops import formats, library, selfcheck
    from ops.framework import devices

    gpu = Placement("gpu")
    devices.use(gpu)
    library.load()
    with launches(cupti) as checked:
        for _ in selfcheck.operator_errors(gpu, formats.get(format).values):
            pass
    with launches(cupti) as used:
        run_model(2, format)
    print(json.dumps({"checked": sorted(checked), "used": sorted(used)}))


if __name__ == "__main__":
    main()
