"""An arm in a contest: its worker, and what has become of it by case."""

from dataclasses import dataclass, field

from bench.process import WorkerFailed


@dataclass
class CaseResult:
    """What one arm made of one further case."""

    status: str = "ok"
    reason: str = ""
    samples: dict = field(default_factory=dict)    # stage -> ordered samples
    launches: dict = field(default_factory=dict)   # stage -> samples of each launch that made some
    agreement: float | None = None                 # the least of its passes, see gate.Judge.judge_pass
    warmup: list = field(default_factory=list)     # end-to-end ms of the warm-up passes, the first run left out
    stopped: str | None = None                     # why its rounds ended, see bench.stopping

    def add(self, stages):
        for stage, samples in stages.items():
            self.samples.setdefault(stage, []).extend(samples)

    def end_launch(self):
        """What was added since the launch before was made by one launch."""
        for stage, samples in self.samples.items():
            counts = self.launches.setdefault(stage, [])
            if made := len(samples) - sum(counts):
                counts.append(made)


@dataclass
class Entry(CaseResult):
    """One arm and what has become of it in the gated case."""

    name: str = ""
    workers: list = field(default_factory=list)    # of this launch and of those that follow and are loaded with it
    versions: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)    # what Arm.load says of them
    work: dict = field(default_factory=dict)       # what differs from the case's in bench.work
    counted: dict = field(default_factory=dict)    # stage -> what it counts
    lossy: str = ""                                # see ArmSpec.lossy
    accuracy: dict | None = None
    tokens: list | None = None
    ungated: list = field(default_factory=list)    # tokens of passes before the gate
    repeats: bool = True                           # every pass made the same tokens
    rounds: int = 0
    cases: dict = field(default_factory=dict)      # further Case -> CaseResult
    case_seconds: float = 0.0                      # spent on them

    def leave(self, status, reason):
        self.status, self.reason = status, reason
        self.close()

    @property
    def worker(self):
        """The process of this launch; None once the arm is out of the contest, or where it has not been started."""
        return self.workers[0] if self.workers else None

    def end_worker(self):
        """End this launch's process; the next launch's takes its place, if it has been started."""
        if self.workers:
            self.workers.pop(0).close()

    def close(self):
        while self.workers:
            self.end_worker()

    def attempt(self, name, /, **args):
        """The worker's result; the worker runs only during the call. WorkerFailed, after which it may be alive."""
        self.worker.resume()
        try:
            result = self.worker.call(name, **args)
        except WorkerFailed as e:
            if not e.alive:
                self.close()
            raise
        self.worker.pause()
        return result

    def call(self, name, /, **args):
        """The worker's result, or None after the arm has dropped out."""
        try:
            return self.attempt(name, **args)
        except WorkerFailed as e:
            self.leave(e.status, str(e))
            return None
