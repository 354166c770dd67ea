"""What the tests of the kernels alone need: a GPU, a process without Paddle, and the kernel library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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
    path = os.environ.get("QWEN_VL_KERNELS")
    if not path:
        done = subprocess.run([sys.executable, "-m", "ops.build", "--device", "kernels"], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE, text=True)
        path = done.stdout.splitlines()[-1]
    return Path(path)
