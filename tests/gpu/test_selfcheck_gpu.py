"""The self-check launches every kernel of ours that a model of the 7B geometry does, and takes about a second."""

import json
import re
import subprocess
import sys

import pytest

from tests.gpu.kernels import PACKED, ROOT, has_gpu
from tests.gpu.launched_kernels import NO_CUPTI

OURS = re.compile(r"4qwen")  # the namespace in mangled names; cuBLASLt's kernels do not have it
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture(scope="module", params=["float16", "bfloat16", *PACKED])
def launched(request):
    """Names of kernels by who launched them, in a process of their own: no call was recorded before."""
    done = subprocess.run([sys.executable, "-m", "tests.gpu.launched_kernels", request.param], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode == NO_CUPTI:
        pytest.skip("needs CUPTI, which comes with PyTorch: set TORCH_PYTHON")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {who: {bool(ours): {name for name in names if bool(OURS.search(name)) == ours} for ours in (True, False)}
            for who, names in found.items()}


def test_every_kernel_of_ours_is_checked(launched):
    used, checked = launched["used"][True], launched["checked"][True]
    assert len(used) >= 15  # the calls were seen
    assert not used - checked


def test_products_of_cublaslt_are_checked_where_they_are_used(launched):
    assert not launched["used"][False] or launched["checked"][False]


def test_operators_are_right():
    done = subprocess.run([sys.executable, "-m", "ops.selfcheck", "--device", "gpu"], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "decoder (decode, batch 8)" in done.stdout
