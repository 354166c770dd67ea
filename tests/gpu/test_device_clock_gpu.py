"""The GPU's clock by the driver beside torch's own events, on torch's stream; and what a flush of the L2 cache does."""

import pytest

from tests.gpu.kernels import need_gpu

need_gpu()
torch = pytest.importorskip("torch")

from bench.device_clock import DeviceClock, Driver  # noqa: E402

pytestmark = pytest.mark.gpu
ROUNDS = 20
BUSY_CYCLES = 1_000_000


@pytest.fixture(scope="module")
def clock():
    torch.zeros(1, device="cuda")   # makes the context
    made = DeviceClock(lambda: torch.cuda.current_stream().cuda_stream)
    assert made.fault == ""
    return made


def median(values):
    return sorted(values)[len(values) // 2]


def test_span_is_what_torch_measures(clock):
    a = torch.randn(4096, 4096, device="cuda")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        clock.start()
        begin.record()
        clock.begin("vision")
        for _ in range(5):
            a @ a
        clock.end("vision")
        end.record()
        torch.cuda.synchronize()
        ours.append(clock.milliseconds()["vision"][0])
        theirs.append(begin.elapsed_time(end))
    assert clock.fault == "" and all(0 < inner <= outer for inner, outer in zip(ours, theirs, strict=True))
    assert median(ours) == pytest.approx(median(theirs), rel=0.02, abs=0.02)


def test_l2_size_is_torchs(clock):
    assert Driver().l2_bytes() == torch.cuda.get_device_properties(0).L2_cache_size


def test_flush_makes_what_fits_into_the_cache_slower(clock):
    """A quarter of the L2 is read again and again: from the cache when hot, from memory after a flush."""
    held = torch.zeros(Driver().l2_bytes() // 4, dtype=torch.uint8, device="cuda").view(torch.float32)
    torch.sum(held)
    times = {}
    for cold in (False, True):
        taken = []
        for _ in range(ROUNDS):
            clock.start(cold)
            torch.cuda._sleep(BUSY_CYCLES)  # so that the card does not wait for the launch in between
            clock.begin("vision")
            torch.sum(held)
            clock.end("vision")
            taken += clock.milliseconds()["vision"]
        times[cold] = median(taken)
    clock.start()
    assert clock.fault == "" and times[True] > 1.1 * times[False], times
