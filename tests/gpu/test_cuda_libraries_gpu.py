"""On a GPU Paddle gets its CUDA libraries without a path being set, and the operators take the same cuBLASLt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.kernels import has_gpu

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]
CODE = """
import json
import numpy as np
from core.placement import Placement
from ops import cuda_libraries, library, selfcheck
from ops.framework import devices, import_paddle
paddle, gpu = import_paddle(), Placement("gpu")
cuda_libraries.check()
devices.use(gpu)
x = paddle.to_tensor(np.eye(64, dtype=np.float16) * 3)
product = paddle.matmul(x, x).numpy()
library.load()
selfcheck.check_operators(gpu, "float16")
with open("/proc/self/maps") as maps:  # the aliases are deleted files
    paths = {line.split(maxsplit=5)[5].strip() for line in maps if "/lib" in line}
loaded = {path for path in paths if ("/libcublas" in path or "/libcudnn.so" in path) and not path.endswith("(deleted)")}
print(json.dumps([float(abs(product - 9 * np.eye(64)).max()), sorted(loaded),
                  sorted({str(path) for path in cuda_libraries.serve().values() if path})]))
"""


def test_one_library_for_each_name():
    env = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    error, loaded, served = json.loads(done.stdout.splitlines()[-1])
    assert error == 0
    assert set(loaded) <= set(served) and sum("cublasLt" in path for path in loaded) == 1
