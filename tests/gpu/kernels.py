"""What the tests of the kernels alone need: a GPU, a process without Paddle, and the kernel library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops import formats

ROOT = Path(__file__).resolve().parents[2]


# The formats to test: those without loss, and all that are no plain numbers.
PACKED = [format.name for format in formats.packed("float16")]
QUANTISED = [format.name for format in formats.quantised()]
STORED = [*PACKED, *QUANTISED]


def has_gpu():
    """Whether an NVIDIA GPU answers."""
    smi = shutil.which("nvidia-smi")
    return smi is not None and subprocess.run([smi, "-L"], capture_output=True).returncode == 0


def need_gpu():
    """Skip the calling test module, before it imports torch, where its tests cannot run."""
    if not has_gpu():
        pytest.skip("needs an NVIDIA GPU, none answers here", allow_module_level=True)
    if "paddle" in sys.modules:
        pytest.skip("needs a process without Paddle: python -m pytest tests/gpu", allow_module_level=True)


def library_path():
    """libqwen_vl_kernels.so: the one that $QWEN_VL_KERNELS names, else built for the cards of this machine."""
    return _built("QWEN_VL_KERNELS", "kernels")


def delayed_library_path():
    """The same from sources in which threads of the decode step are late now and then (-DQWEN_VL_TEST_DELAYS,
    ops/kernels/common/waits.cuh); $QWEN_VL_DELAYED_KERNELS names one."""
    return _built("QWEN_VL_DELAYED_KERNELS", "delayed", NVCC_APPEND_FLAGS="-DQWEN_VL_TEST_DELAYS")


def _built(variable, folder, **environment):
    path = os.environ.get(variable)
    if not path:
        command = [sys.executable, "-m", "ops.build", "--device", "kernels", "--out", f"build/ops/{folder}"]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, **environment})
        path = done.stdout.splitlines()[-1]
    return Path(path)


def pack_on_device(library, weight, format):
    """A contiguous fp16 torch tensor [.., rows, columns] in a packed format, u8 [.., rows, bytes of a row]; in one that
    rounds, weights of tests.gpu.quantised."""
    import torch

    if format in QUANTISED:
        from tests.gpu import quantised

        return quantised.pack(weight, format)
    *rows, columns = weight.shape
    packed = torch.empty(*rows, formats.get(format).bytes([columns]), dtype=torch.uint8, device="cuda")
    failed = torch.zeros(1, dtype=torch.int32, device="cuda")
    formats.get(format).pack_on_device(library, weight.data_ptr(), packed.data_ptr(), weight.numel() // columns,
                                       columns, failed.data_ptr(), torch.cuda.current_stream().cuda_stream)
    assert not failed.item()
    return packed
