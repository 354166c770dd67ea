"""The GPU's own clock and its L2 cache, through the CUDA driver's library.

Events and streams are objects of the driver, so the same calls serve every framework, whatever runtime it brings, and
need no kernel of either.
"""

import ctypes

LIBRARY = "libcuda.so.1"
L2_CACHE_SIZE = 38    # CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
FLUSHED = 3           # times the L2's size that are written to flush it
STEP = "step"         # a span that is timed in cold passes only: in hot ones two events a step would disturb


class DriverError(Exception):
    """A call of the driver that failed, in one line."""


class Driver:
    """The calls of libcuda that are used, on the context that is current in this thread; DriverError if one fails."""

    def __init__(self, library=LIBRARY):
        try:
            self.library = ctypes.CDLL(library)
        except OSError as e:
            raise DriverError(str(e)) from None

    def call(self, name, *args):
        try:
            status = getattr(self.library, name)(*args)
        except AttributeError:
            raise DriverError(f"the driver has no {name}") from None
        if status:
            raise DriverError(f"{name} returned {status}")

    def create_event(self):
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        return event

    def record(self, event, stream):
        self.call("cuEventRecord", event, stream)

    def milliseconds(self, begin, end):
        """Between two events; waits for the second."""
        elapsed = ctypes.c_float()
        self.call("cuEventSynchronize", end)
        self.call("cuEventElapsedTime", ctypes.byref(elapsed), begin, end)
        return elapsed.value

    def l2_bytes(self):
        device, size = ctypes.c_int(), ctypes.c_int()
        self.call("cuCtxGetDevice", ctypes.byref(device))
        self.call("cuDeviceGetAttribute", ctypes.byref(size), ctypes.c_int(L2_CACHE_SIZE), device)
        return size.value

    def allocate(self, size):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def free(self, pointer):
        self.call("cuMemFree_v2", pointer)

    def fill(self, pointer, size, stream):
        self.call("cuMemsetD8Async", pointer, ctypes.c_ubyte(0), ctypes.c_size_t(size), stream)


class DeviceClock:
    """Spans of one pass on one stream, each between two events. `fault` says why it has stopped measuring, or is "".

    A span covers what the stream does from the begin to the end, waiting for the host's launches included. A cold pass
    writes over the L2 cache before each span.
    """

    def __init__(self, stream, driver=None):
        """`stream` returns a cudaStream_t as an integer, 0 for the default one; what it raises is the fault."""
        self.fault = ""
        self.free, self.used, self.opened, self.spans, self.buffer = [], [], {}, {}, None
        try:
            self.stream = ctypes.c_void_p(stream())
            self.driver = driver or Driver()
            self.flushed_bytes = FLUSHED * self.driver.l2_bytes()
        except (DriverError, AttributeError, RuntimeError) as e:  # a missing figure must not end a run
            self.fault = str(e)

    def start(self, cold=False):
        """Forget the spans of the pass before; DriverError where a cold pass cannot be made."""
        self.free += self.used
        self.used, self.opened, self.spans = [], {}, {}
        if cold and self.fault:
            raise DriverError(self.fault)
        if cold and self.buffer is None:
            self.buffer = self.driver.allocate(self.flushed_bytes)
        if not cold and self.buffer is not None:
            self.driver.free(self.buffer)
            self.buffer = None

    def _record(self):
        event = self.free.pop() if self.free else self.driver.create_event()
        self.used.append(event)
        self.driver.record(event, self.stream)
        return event

    def _skips(self, name):
        return self.fault or (name == STEP and self.buffer is None)

    def begin(self, name):
        if self._skips(name):
            return
        try:
            if self.buffer is not None:
                self.driver.fill(self.buffer, self.flushed_bytes, self.stream)
            self.opened[name] = self._record()
        except DriverError as e:
            self.fault = str(e)

    def end(self, name):
        if self._skips(name) or name not in self.opened:
            return
        try:
            self.spans.setdefault(name, []).append((self.opened.pop(name), self._record()))
        except DriverError as e:
            self.fault = str(e)

    def milliseconds(self):
        """{span: [ms]} of the pass; empty with a fault."""
        try:
            return {} if self.fault else {name: [self.driver.milliseconds(*pair) for pair in pairs]
                                          for name, pairs in self.spans.items()}
        except DriverError as e:
            self.fault = str(e)
            return {}
