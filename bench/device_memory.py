"""What the whole GPU has in use, seen from the parent of the arms."""

import contextlib
import functools
import subprocess
import threading

from bench import card

SECONDS = 0.1            # between two looks through NVML
COMMAND_SECONDS = 0.5    # through nvidia-smi, which takes processor time itself


def nvml_reader(environment=None):
    """A function that returns (used, total) MiB of the arms' card, None where NVML does not know it.

    environment: the arms', by default this process's.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = card.find(pynvml, environment).part
    except (pynvml.NVMLError, card.NoCard):
        return None

    def read():
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return memory.used / 2**20, memory.total / 2**20
    return read


def read_with_command(environment=None):
    """(used, total) MiB by nvidia-smi; NoCard, OSError, ValueError, IndexError or SubprocessError where that fails."""
    name = card.first_named(environment)
    lines = subprocess.run(["nvidia-smi", "--query-gpu=uuid,mig.mode.current,memory.used,memory.total",
                            "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True,
                           timeout=20).stdout.splitlines()
    cards = [[field.strip() for field in line.split(",")] for line in lines]
    position = int(name) if card.NUMBER.fullmatch(name) else card.only_match(name, [uuid for uuid, *_ in cards])
    _, divided, used, total = cards[position]
    if divided == "Enabled":
        raise card.NoCard("nvidia-smi does not tell a MIG instance's memory")
    return float(used), float(total)


class DeviceMemory:
    """Samples the device's use in a thread between start() and stop(). `source` is None where nothing can be read."""

    def __init__(self, read=None, environment=None):
        self.read, self.source, self.seconds = read or nvml_reader(environment), "NVML", SECONDS
        if self.read is None:
            self.read, self.source, self.seconds = (functools.partial(read_with_command, environment), "nvidia-smi",
                                                    COMMAND_SECONDS)
        self.total = None
        reading = self._look()
        if reading is None:
            self.source = None
        else:
            self.total = reading[1]
        self.thread = None

    def _look(self):
        with contextlib.suppress(Exception):  # a figure that is missing must not end a run
            return self.read()
        return None

    def start(self):
        reading = self._look() if self.source else None
        self.baseline = self.peak = reading[0] if reading else None
        self.done = threading.Event()
        if reading:
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()

    def _sample(self):
        while not self.done.wait(self.seconds):
            reading = self._look()
            if reading:
                self.peak = max(self.peak, reading[0])

    def stop(self):
        """Largest use since start() above that at start(), MiB; None where it is not known."""
        self.done.set()
        if self.thread:
            self.thread.join()
            self.thread = None
        reading = self._look() if self.source else None
        if self.peak is None:
            return None
        return max(self.peak, reading[0] if reading else 0) - self.baseline
