"""The arms of one run: started, gated, measured in interleaved rounds. A failing arm drops out with its reason."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import gate
from bench.process import Worker, WorkerFailed


@dataclass
class Entry:
    """One arm and what has become of it; `worker` is None once it is out of the contest."""

    name: str
    status: str = "ok"
    reason: str = ""
    worker: Worker | None = None
    samples: dict = field(default_factory=dict)    # stage -> ordered samples
    versions: dict = field(default_factory=dict)
    counted: str = ""
    accuracy: dict | None = None
    tokens: list | None = None

    def leave(self, status, reason):
        self.status, self.reason = status, reason
        self.close()

    def close(self):
        if self.worker:
            self.worker.close()
        self.worker = None

    def call(self, name, /, **args):
        """The worker's result, or None after the arm has dropped out; the worker runs only during the call."""
        self.worker.resume()
        try:
            result = self.worker.call(name, **args)
        except WorkerFailed as e:
            self.leave(e.status, str(e))
            return None
        self.worker.pause()
        return result

    def add(self, stages):
        for stage, samples in stages.items():
            self.samples.setdefault(stage, []).extend(samples)


class Contest:
    """All arms over one case. Close it, whatever happens: it owns processes."""

    def __init__(self, names, scratch, progress):
        self.entries = [Entry(name) for name in names]
        self.scratch, self.progress = Path(scratch), progress
        self.rounds = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for entry in self.entries:
            entry.close()

    @property
    def running(self):
        return [entry for entry in self.entries if entry.worker]

    def spawn(self, entry, target, python, env):
        """Start an arm's worker; the arms import their frameworks at the same time."""
        try:
            entry.worker = Worker(target, python, self.scratch / f"{entry.name}.log", env)
        except WorkerFailed as e:
            entry.leave(e.status, str(e))

    def wait_ready(self):
        """Wait for all workers and stop them, so that none disturbs another one's loading."""
        self.progress.doing("importing frameworks")
        for entry in self.running:
            try:
                entry.worker.wait_ready()
                entry.worker.pause()
            except WorkerFailed as e:
                entry.leave(e.status, str(e))

    def load(self, entry, load, prepare):
        """Load an arm's weights and hand it the case: `load` and `prepare` are the calls' arguments."""
        self.progress.doing(f"{entry.name}: loading")
        loaded = entry.call("load", **load)
        if loaded is not None:
            entry.versions = loaded["versions"]
            entry.samples["load"] = [loaded["load_ms"]]
            entry.call("prepare", **prepare)

    def pass_gate(self, dtype):
        """Compare every arm with the first that works; an arm that differs leaves. Returns the reference's name."""
        reference, name = None, None
        for entry in self.running:
            self.progress.doing(f"{entry.name}: accuracy")
            path = self.scratch / f"{entry.name}.npz"
            entry.call("outputs", path=str(path))
            if not entry.worker:
                continue
            with np.load(path, allow_pickle=False) as stored:
                outputs = dict(stored)
            path.unlink()
            if reference is None:
                reference, name = outputs, entry.name
            entry.tokens = outputs["tokens"].tolist()
            entry.accuracy = gate.compare(reference, outputs, dtype)
            if not entry.accuracy["passed"]:
                entry.leave("failed", f"gate failed: {entry.accuracy['reason']}")
        return name

    def _pass(self, entry):
        result = entry.call("measure")
        if result and result["tokens"] != entry.tokens:
            entry.leave("failed", "gate failed: a later pass made other tokens than the compared one")
            return {}
        return result["stages"] if result else {}

    def warm_up(self, passes):
        for i in range(passes):
            for entry in self.running:
                self.progress.doing(f"{entry.name}: warm-up {i + 1}/{passes}")
                self._pass(entry)

    def measure(self, rounds):
        """Rounds A B C, C B A, A B C …, so that drift hits all arms alike; one pass of an arm at a time."""
        for i in range(rounds):
            for entry in self.running if i % 2 == 0 else self.running[::-1]:
                self.progress.doing(f"{entry.name}: round {i + 1}/{rounds}")
                entry.add(self._pass(entry))
            self.rounds += 1

    def finish(self):
        """Ask every arm for its peak memory, then end the processes."""
        for entry in self.running:
            peak = entry.call("peak_memory")
            if peak:
                entry.samples["peak_memory"], entry.counted = [peak["mib"]], peak["kind"]
            entry.close()
