"""Every operator of paddlenlp_ops and fused_ln against numpy on the GPU, through copies alone: on a card that Paddle's
wheel has no kernels for, nothing else of Paddle's can be trusted. compute-sanitizer runs this file as well:
`compute-sanitizer --error-exitcode 1 python -m pytest tests/gpu/test_stock_gpu.py`.
"""

import sys
from pathlib import Path

import pytest

from tests.gpu.kernels import has_gpu

if not has_gpu():
    pytest.skip("needs an NVIDIA GPU, none answers here", allow_module_level=True)
if "torch" in sys.modules:
    pytest.skip("needs a process without torch: python -m pytest tests/gpu/test_stock_gpu.py", allow_module_level=True)
sys.path.insert(0, str(Path(__file__).parents[1]))

from stock_cases import all_cases  # noqa: E402
from stock_operators import check, function, paddle, to_device, to_numpy  # noqa: E402

if not paddle.is_compiled_with_cuda() or paddle.device.cuda.device_count() == 0:
    pytest.skip("needs Paddle's GPU wheel (make setup DEVICE=gpu)", allow_module_level=True)
pytestmark = pytest.mark.gpu

CASES = list(all_cases())


@pytest.fixture(autouse=True)
def packages(stock_packages, monkeypatch):
    """The built packages, importable, and Paddle on the GPU."""
    monkeypatch.syspath_prepend(stock_packages)
    paddle.set_device("gpu")
    yield
    paddle.set_device("cpu")


@pytest.mark.parametrize("operator", sorted({case.operator for case in CASES}))
def test_operator_against_numpy(operator):
    for case in CASES:
        if case.operator == operator:
            check(case, "gpu")


def test_results_repeat():
    """The same bits from the same inputs."""
    for case in CASES:
        if case.operator in ("fused_rms_norm", "fused_layer_norm", "fused_get_rotary_embedding"):
            tensors = [to_device(array, case.dtype if place in case.cast else None, "gpu")
                       for place, array in enumerate(case.inputs)]
            runs = []
            for _ in range(2):
                made = function(case.operator)(*tensors, **case.attributes)
                runs.append(to_numpy(made[0] if isinstance(made, list) else made).tobytes())
            assert runs[0] == runs[1]


def test_tokens_reach_their_file_from_the_gpu(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    tokens = np.array([[5], [151643]], np.int64)
    numbers = [to_device(np.array([value], dtype), None, "gpu") for value, dtype in ((-1, np.int32), (3, np.int64))]
    function("save_with_output")(to_device(tokens, None, "gpu"), *numbers, "ids", 0)
    assert (tmp_path / "ids_rank_0_step_3").read_bytes() == b"11" + tokens.tobytes()
