"""Calls from threads that come and go: nothing of theirs stays, and those at the same time do not mix."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.gpu.kernels import has_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture(scope="module")
def model():
    from tests.gpu.published import Model

    return Model(1, "float16")


def allocated():
    import paddle

    paddle.device.cuda.synchronize()
    return paddle.device.cuda.memory_allocated()


def test_threads_leave_no_memory_behind(model):
    def run():
        model.image()
        model.call(1, 40)
        model.call(1, 1, 40)

    held = []
    for _ in range(6):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        held.append(allocated())
    assert held[-1] <= held[1] + (1 << 20)  # a workspace of the products alone is 32 MiB


def test_images_of_threads_at_the_same_time_do_not_mix(model):
    alone = model.image().numpy()
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: model.image().numpy(), range(16)):
            np.testing.assert_array_equal(together, alone)
