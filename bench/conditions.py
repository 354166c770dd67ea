"""What the machine did while it was measured: load, clocks, temperature, power, why the GPU's clocks were held back.

    with Sampler() as sampler:
        …measure…
    provenance["during"] = sampler.summary()

What cannot be read is "not available: <reason>", never a missing key or an error: a run goes on without it.
"""

import contextlib
import os
import statistics
import threading
import time

import psutil

from bench import card

SECONDS = 1.0    # between two looks; each takes about a millisecond of one core
EVENT_REASONS = {  # bits of NVML's clocks event reasons
    0x1: "idle", 0x2: "applications_clocks", 0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost",
    0x20: "sw_thermal_slowdown", 0x40: "hw_thermal_slowdown", 0x80: "hw_power_brake", 0x100: "display_clocks"}
THROTTLING = ("sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")


def not_available(reason):
    return f"not available: {reason}"


class Gpu:
    """The GPU that arms see as their first, through NVML; `fault` says why nothing can be read, or is "".

    Of a MIG instance the name is its own; clocks, power and temperature are the card's that it is on.
    """

    def __init__(self, nvml=None, environment=None):
        """environment: the arms', by default this process's."""
        self.fault = ""
        try:
            if nvml is None:
                import pynvml as nvml
            self.nvml = nvml
            nvml.nvmlInit()
            self.card = card.find(nvml, environment)
        except ImportError:
            self.fault = not_available("the package nvidia-ml-py is not installed")
        except card.NoCard as e:
            self.fault = not_available(str(e))
        except nvml.NVMLError as e:
            self.fault = not_available(f"NVML: {e}")

    def _ask(self, name, *args):
        """One of NVML's functions on the card; a text where this card or driver does not answer it."""
        return self._ask_of(self.card.whole, name, *args)

    def _ask_of(self, handle, name, *args):
        try:
            return getattr(self.nvml, name)(handle, *args)
        except (self.nvml.NVMLError, AttributeError) as e:
            return not_available(str(e))

    def _scaled(self, name, divisor, *args):
        value = self._ask(name, *args)
        return value if isinstance(value, str) else value / divisor

    def facts(self):
        """What does not change: {"name", "driver", "power_limit_w", "ecc", "max_sm_mhz"}, or the text of a fault."""
        if self.fault:
            return self.fault
        nvml, ecc = self.nvml, self._ask("nvmlDeviceGetEccMode")
        try:
            driver = card.text(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError as e:
            driver = not_available(str(e))
        return {"name": card.text(self._ask_of(self.card.part, "nvmlDeviceGetName")), "driver": driver,
                "power_limit_w": self._scaled("nvmlDeviceGetEnforcedPowerLimit", 1e3),
                "ecc": ecc if isinstance(ecc, str) else bool(ecc[0]),
                "max_sm_mhz": self._ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM)}

    def look(self):
        """One sample: {"sm_mhz", "memory_mhz", "temperature_c", "power_w", "events": [names]}."""
        nvml = self.nvml
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if isinstance(bits, str):  # its name before driver 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return {"sm_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
                "memory_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
                "temperature_c": self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
                "power_w": self._scaled("nvmlDeviceGetPowerUsage", 1e3),
                "events": bits if isinstance(bits, str) else
                          [name for bit, name in EVENT_REASONS.items() if bits & bit]}


def cpu_mhz():
    """Mean clock of the cores in MHz, or why it is not known."""
    with contextlib.suppress(OSError, RuntimeError, AttributeError):
        frequency = psutil.cpu_freq()
        if frequency and frequency.current:
            return frequency.current
    return not_available("this kernel does not tell the clock")


def busy_seconds():
    """(seconds that all cores were busy or stolen, those of this process and its children) since they began."""
    times = psutil.cpu_times()
    busy = times.user + times.system + times.nice + times.irq + times.softirq + times.steal
    own, this = 0.0, psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            process_times = process.cpu_times()
            own += process_times.user + process_times.system
            if process == this:  # children that have ended
                own += process_times.children_user + process_times.children_system
    return busy, own


def spread(values):
    """{"min", "median", "max"} of numbers; the text that stands in their place."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return next(iter(values), not_available("no sample was taken"))
    return {"min": min(numbers), "median": statistics.median(numbers), "max": max(numbers)}


class Sampler(contextlib.AbstractContextManager):
    """Looks at the machine every `seconds` from its start to its end, in a thread; at least once at both."""

    def __init__(self, gpu=None, seconds=SECONDS):
        self.gpu, self.seconds = gpu or Gpu(), seconds
        self.looks = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self.last = (time.monotonic(), *busy_seconds())
        self._look()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self._look()

    def _sample(self):
        while not self.done.wait(self.seconds):
            self._look()

    def _look(self):
        with contextlib.suppress(Exception):  # a figure that is missing must not end a run
            now = (time.monotonic(), *busy_seconds())
            passed = now[0] - self.last[0]
            look = {"load_average": os.getloadavg()[0], "cpu_mhz": cpu_mhz()}
            if passed > self.seconds / 2:
                look["others"] = max(0.0, (now[1] - self.last[1]) - (now[2] - self.last[2])) / passed
                self.last = now
            if not self.gpu.fault:
                look |= self.gpu.look()
            self.looks.append(look)

    def summary(self):
        """{"looks", "load_average", "cpu_mhz", "others_cores", "gpu"}, each figure {"min", "median", "max"}.

        others_cores: cores kept busy by programs that are not this run (time stolen from a virtual machine included).
        gpu: {"sm_mhz", "memory_mhz", "temperature_c", "power_w", "events": {reason: share of the looks}, "throttled":
        bool}. A text in the place of a figure says why it is not there.
        """
        if not self.done.is_set():
            self._look()
        looks = list(self.looks)
        figures = {"looks": len(looks),
                   **{name: spread([look[name] for look in looks]) for name in ("load_average", "cpu_mhz")},
                   "others_cores": spread([look["others"] for look in looks if "others" in look])}
        if self.gpu.fault or not looks:
            return {**figures, "gpu": self.gpu.fault or not_available("no sample was taken")}
        gpu = {name: spread([look[name] for look in looks])
               for name in ("sm_mhz", "memory_mhz", "temperature_c", "power_w")}
        events = [look["events"] for look in looks if not isinstance(look["events"], str)]
        gpu["events"] = {name: sum(name in names for names in events) / len(events) for name in EVENT_REASONS.values()
                         if any(name in names for names in events)} if events else looks[0]["events"]
        gpu["throttled"] = any(name in gpu["events"] for name in THROTTLING) if events else None
        return {**figures, "gpu": gpu}
