"""A CUDA driver without a device, for the tests of the GPU's clock: time passes with what is launched on it."""

from bench.device_clock import DriverError

L2_BYTES = 1000


class FakeDriver:
    """Every call takes 1 ms of the stream, work() as long as it says; `fails` names a call that does not work.

    `log` holds "fill", "record" and the milliseconds of work, in order.
    """

    def __init__(self, fails=""):
        self.now, self.log, self.fails, self.held = 0.0, [], fails, 0

    def _call(self, name, ms):
        if name == self.fails:
            raise DriverError(f"{name} returned 1")
        self.now += ms
        self.log.append(name)

    def l2_bytes(self):
        self._call("l2", 0)
        return L2_BYTES

    def create_event(self):
        return {}

    def record(self, event, stream):
        self._call("record", 1)
        event["at"] = self.now

    def milliseconds(self, begin, end):
        return end["at"] - begin["at"]

    def allocate(self, size):
        self._call("allocate", 0)
        self.held += size
        return size

    def free(self, size):
        self.held -= size

    def fill(self, pointer, size, stream):
        assert pointer == size
        self._call("fill", 100)

    def work(self, ms):
        self.now += ms
        self.log.append(ms)
