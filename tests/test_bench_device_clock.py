"""The GPU's clock: spans between events, cold passes, what happens without a driver."""

import pytest

from bench.device_clock import FLUSHED, DeviceClock, Driver, DriverError
from tests.bench_fake_driver import L2_BYTES, FakeDriver


def one_pass(clock, driver, cold=False):
    clock.start(cold)
    clock.begin("decode")
    for ms in (5, 7):
        clock.begin("step")
        driver.work(ms)
        clock.end("step")
    clock.end("decode")
    return clock.milliseconds()


def test_hot_pass_has_two_events_a_span_and_none_a_step():
    driver = FakeDriver()
    assert one_pass(DeviceClock(lambda: 0, driver), driver) == {"decode": [13]}   # the work and the end's record
    assert driver.log == ["l2", "record", 5, 7, "record"]


def test_cold_pass_flushes_before_each_step_and_outside_its_span():
    driver = FakeDriver()
    assert one_pass(DeviceClock(lambda: 0, driver), driver, cold=True)["step"] == [6, 8]
    assert driver.log == ["l2", "allocate", "fill", "record", "fill", "record", 5, "record", "fill", "record", 7,
                          "record", "record"]


def test_buffer_of_a_cold_pass_goes_with_the_next_hot_one():
    driver = FakeDriver()
    clock = DeviceClock(lambda: 0, driver)
    one_pass(clock, driver, cold=True)
    assert driver.held == FLUSHED * L2_BYTES
    assert one_pass(clock, driver) == {"decode": [13]} and driver.held == 0


def test_events_are_used_again():
    driver = FakeDriver()
    clock = DeviceClock(lambda: 0, driver)
    one_pass(clock, driver)
    before = {id(event) for event in clock.used}
    one_pass(clock, driver)
    assert {id(event) for event in clock.used} == before


@pytest.mark.parametrize("call", ["l2", "record"])
def test_driver_that_fails_ends_no_pass(call):
    driver = FakeDriver(fails=call)
    clock = DeviceClock(lambda: 0, driver)
    assert one_pass(clock, driver) == {} and clock.fault == f"{call} returned 1"


def test_stream_that_cannot_be_named_is_a_fault():
    def stream():
        raise NotImplementedError("the arm does not name its stream")
    assert DeviceClock(stream, FakeDriver()).fault == "the arm does not name its stream"


def test_cold_pass_without_a_clock_is_refused():
    clock = DeviceClock(lambda: 0, FakeDriver(fails="l2"))
    with pytest.raises(DriverError, match="l2 returned 1"):
        clock.start(cold=True)


def test_missing_driver_and_missing_calls_are_one_line():
    with pytest.raises(DriverError, match="libno_such_driver"):
        Driver("libno_such_driver.so")
    with pytest.raises(DriverError, match="the driver has no cuEventCreate"):
        Driver("libc.so.6").create_event()
