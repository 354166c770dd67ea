"""What the whole GPU has in use, seen from the parent of the arms."""

import contextlib
import os
import subprocess
import threading

SECONDS = 0.1            # between two looks through NVML
COMMAND_SECONDS = 0.5    # through nvidia-smi, which takes processor time itself


def device_index():
    """The GPU that the arms see as their first."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return int(first) if first.isdigit() else 0


def nvml_reader():
    """A function that returns (used, total) MiB, or None without NVML's Python package or a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device_index())
    except pynvml.NVMLError:
        return None

    def read():
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return memory.used / 2**20, memory.total / 2**20
    return read


def read_with_command():
    """(used, total) MiB by nvidia-smi; OSError, ValueError or SubprocessError where that fails."""
    line = subprocess.run(["nvidia-smi", f"--id={device_index()}", "--query-gpu=memory.used,memory.total",
                           "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True,
                          timeout=20).stdout
    used, total = line.strip().splitlines()[0].split(",")
    return float(used), float(total)


class DeviceMemory:
    """Samples the device's use in a thread between start() and stop(). `source` is None where nothing can be read."""

    def __init__(self, read=None):
        self.read, self.source, self.seconds = read or nvml_reader(), "NVML", SECONDS
        if self.read is None:
            self.read, self.source, self.seconds = read_with_command, "nvidia-smi", COMMAND_SECONDS
        self.total = None
        found = self._look()
        if found is None:
            self.source = None
        else:
            self.total = found[1]
        self.thread = None

    def _look(self):
        with contextlib.suppress(Exception):  # a figure that is missing must not end a run
            return self.read()
        return None

    def start(self):
        found = self._look() if self.source else None
        self.baseline = self.peak = found[0] if found else None
        self.done = threading.Event()
        if found:
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()

    def _sample(self):
        while not self.done.wait(self.seconds):
            found = self._look()
            if found:
                self.peak = max(self.peak, found[0])

    def stop(self):
        """Largest use since start() above that at start(), MiB; None where it is not known."""
        self.done.set()
        if self.thread:
            self.thread.join()
            self.thread = None
        found = self._look() if self.source else None
        if self.peak is None:
            return None
        return max(self.peak, found[0] if found else 0) - self.baseline
