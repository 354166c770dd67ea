"""A prompt of a length that was not seen before takes at most a tenth longer than the next one of that length.

Both come with inputs made just before: the device has been idle for as long, and its caches hold as little of them.
The next one is held to those after it as well, with more room, as the host gets quicker at what it repeats: what is to
be found, products that are timed or memory that is taken, would be many times a call.
"""

import statistics
import threading

import pytest

from tests.gpu.kernels import PACKED, has_gpu

LAYERS = 8
LENGTHS = (37, 100, 130, 201, 250, 286, 333, 401, 470, 611, 750, 901, 1000)  # most of them are no rung
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture(scope="module", params=["float16", "bfloat16", *PACKED])
def model(request):
    from tests.gpu.published import Model

    made = Model(LAYERS, request.param)
    made.tune()
    made.seconds(1, 1050)  # workspaces have their size
    return made


def test_a_new_length_costs_at_most_a_tenth_more(model):
    over_next, over_later = [], []
    for length in LENGTHS:
        times = []
        for _ in range(8):
            model.forget_inputs()
            times.append(model.seconds(1, length))
        first, second, *later = times
        over_next.append(first / second)
        over_later.append(second / statistics.median(later))
        print(f"{length} tokens: first {first * 1e3:.2f} ms, next {second * 1e3:.2f}, "
              f"later {statistics.median(later) * 1e3:.2f}")
    assert statistics.median(over_next) < 1.1, over_next
    assert statistics.median(over_later) < 1.5, over_later


def test_another_thread_takes_what_was_timed(model):
    """A new length in a new thread costs no more than one in this thread: timing would be many times a call."""
    times = []
    worker = threading.Thread(target=lambda: times.append(model.seconds(1, 555)))
    worker.start()
    worker.join()
    assert times[0] < 1.5 * model.seconds(1, 556)
