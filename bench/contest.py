"""The arms of one run: started, gated, measured in interleaved rounds. A failing arm drops out with its reason."""

import contextlib
import time
from pathlib import Path

import numpy as np

from bench.conditions import busy_seconds
from bench.entry import CaseResult, Entry
from bench.git import ROOT
from bench.process import Worker, WorkerFailed
from bench.schema import OTHERS
from bench.stopping import OUT_OF_TIME, is_warm

YARDSTICK = "yardstick"   # what measures the device itself, see bench/yardstick.py
SETTLING = 4.0         # seconds that the rounds of a launch wait at most for the device to be quiet: the next launch,
#                        which has much to do before its rounds, may find it so
LOOKING = 0.05         # seconds between two looks
ROUNDS_WHEN_LATE = 3   # that a run whose time is over still makes
OUT_OF_SHARE = "the arm's share of the time given by --deadline was over"
OUT_OF_CASE_TIME = "the time given by --case-budget was over"


class GateFailed(Exception):
    """A pass made tokens that the reference rules out; str() says which."""


@contextlib.contextmanager
def leaving(entry):
    """An arm whose worker fails in here leaves."""
    try:
        yield
    except WorkerFailed as e:
        entry.leave(e.status, str(e))


class Contest:
    """All arms over one gated case and further ones. Close it, whatever happens: it owns processes.

    `running` are the arms of the current `group` that are still in; a group's arms hold their weights together.
    """

    def __init__(self, names, scratch, progress, deadline=None, sampler=None):
        """sampler: a bench.conditions.Sampler, which looks at the machine while rounds are made."""
        self.entries = [Entry(name=name) for name in names]
        self.group, self.yardstick, self.quiet = self.entries, Entry(name=YARDSTICK), None
        self.sampler = sampler
        self.scratch, self.progress, self.deadline = Path(scratch), progress, deadline
        self.share_ends = deadline   # no further case begins later: the arms to come need the rest

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for entry in [*self.entries, self.yardstick]:
            entry.close()

    @property
    def running(self):
        return [entry for entry in self.group if entry.worker]

    @property
    def late(self):
        return self.deadline is not None and time.monotonic() > self.deadline

    def spawn(self, entry, target, python, env, root=ROOT, launches=1):
        """Start an arm's workers of so many launches on the code of the tree `root`; all that are started import their
        frameworks at the same time."""
        with leaving(entry):
            for launch in range(launches):
                entry.workers.append(Worker(target, python, self.scratch / f"{entry.name}-{launch}.log", env, root=root,
                                            deadline=self.deadline))

    def wait_ready(self):
        """Wait for all workers and stop them, so that none disturbs another one's loading."""
        self.progress.doing("importing frameworks")
        for entry in self.running:
            self.wait_for(entry)

    @staticmethod
    def wait_for(entry):
        """Wait for an arm's workers and stop them."""
        with leaving(entry):
            for worker in entry.workers:
                worker.wait_ready()
                worker.pause()

    def load_together(self, loads):
        """Have the workers of several launches load their weights at the same time; `load` then returns what each of
        them answered. loads: {arm: arguments of that call}."""
        entries = [entry for entry in self.running if len(entry.workers) > 1 and not entry.worker.begun]
        if entries:
            self.progress.doing(f"loading {sum(len(entry.workers) for entry in entries)} workers")
        for entry in entries:
            with leaving(entry):
                for worker in entry.workers:
                    worker.resume()
                    worker.begin("load", **loads[entry.name])
        for entry in entries:
            with leaving(entry):
                for worker in entry.workers:
                    worker.wait_answered()
                    worker.pause()

    def load(self, entry, load, prepare):
        """Load an arm's weights and hand it the case: `load` and `prepare` are the calls' arguments."""
        if self.late:
            entry.leave("skipped", OUT_OF_TIME)
            return
        self.progress.doing(f"{entry.name}: loading")
        loaded = entry.call("load", **load)
        if loaded is None:
            return
        entry.versions = loaded["versions"]
        figures = ("weights", "bits", "weights_bytes", "decode_bytes")  # an older tree's arm does not say all
        entry.weights = {"weights": load["dtype"], **{name: loaded[name] for name in figures if name in loaded}}
        entry.add({"load": [loaded["load_ms"]]})
        prepared = entry.call("prepare", **prepare)
        if prepared:
            self._add_compile(entry, prepared)

    @staticmethod
    def _add_compile(result, prepared):
        if prepared["compile_ms"] is not None:
            result.add({"compile": [prepared["compile_ms"]]})

    def outputs(self, entry):
        """What the gate compares of an arm, None after it has dropped out."""
        self.progress.doing(f"{entry.name}: accuracy")
        return self._arrays(entry, "outputs")

    def text_logits(self, entry, ids):
        """An arm's logits of a text [len(ids), V], None after it has dropped out."""
        self.progress.doing(f"{entry.name}: {len(ids)} positions of a text")
        arrays = self._arrays(entry, "text_logits", ids=ids)
        return arrays and arrays["logits"]

    def _arrays(self, entry, name, **args):
        """What a call of an arm writes, {name: array}; None after it has dropped out."""
        path = self.scratch / f"{entry.name}.npz"
        libraries = entry.call(name, path=str(path), **args)
        if not entry.worker:
            return None
        entry.versions |= libraries or {}
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        path.unlink()
        return arrays

    def pass_gate(self, judge):
        """Have every arm of the group judged, the one that sets the scale first; an arm that differs leaves.

        In its later launches an arm is held to the tokens of its first."""
        self.judge = judge
        new = [entry for entry in self.running if entry.tokens is None]
        for entry in sorted(new, key=lambda entry: judge.half and entry.name != judge.scale_arm):
            self._judge(entry)

    def _judge(self, entry):
        outputs = self.outputs(entry)
        if outputs is None:
            return
        entry.tokens = outputs["tokens"].tolist()
        entry.accuracy = self.judge.judge(entry.name, outputs, bool(entry.lossy))
        if not entry.accuracy["passed"]:
            entry.leave("failed", f"gate failed: {entry.accuracy['reason']}")
        for tokens in entry.ungated if entry.worker else ():
            self._judge_pass(entry, tokens)

    def tell_cost(self):
        """Have what rounding costs on a text told of each arm that rounds. Its logits are large: what an arm needs to
        answer has been measured before."""
        for entry in list(self.running):
            if self.judge.is_rounded(entry.name) and self.judge.text_ids:
                logits = self.text_logits(entry, self.judge.text_ids)
                if logits is not None:
                    entry.accuracy["lossy"] |= self.judge.text_cost(logits)

    def _judge_pass(self, entry, tokens):
        """Have the tokens of one pass of the gated case judged; an arm that made wrong ones leaves."""
        if tokens != entry.tokens:
            # In half precision a framework may sum in another order from pass to pass, and rounding decides ties.
            entry.repeats = False
            if not self.judge.half:
                entry.leave("failed", "gate failed: a pass made other tokens than the compared one")
                return
        judged = not entry.lossy or self.judge.is_rounded(entry.name)
        verdict = self.judge.judge_pass(tokens, entry.name) if judged else {"passed": True}
        if not verdict["passed"]:
            entry.leave("failed", f"gate failed: in a pass, {verdict['reason']}")

    def _pass(self, entry, **args):
        result = entry.call("measure", **args)
        if result:
            self._judge_pass(entry, result["tokens"])
        return result["stages"] if result and entry.worker else {}

    def first_run(self):
        """The first pass of every arm, which is reported apart; the gate comes after it."""
        for entry in self.running:
            self.progress.doing(f"{entry.name}: first run")
            result = entry.call("measure")
            if result:
                entry.add({"first_run": result["stages"]["end_to_end"]})
                if entry.tokens is None:
                    entry.ungated.append(result["tokens"])
                else:
                    self._judge_pass(entry, result["tokens"])

    def warm_up(self, most, device):
        """Passes of each arm until it is warm (bench.stopping.is_warm), `most` at most."""
        for entry in self.running:
            entry.warmup = []
        for i in range(most):
            for entry in self.running:
                if is_warm(entry.warmup, device):
                    continue
                self.progress.doing(f"{entry.name}: warm-up {i + 1}, {most} at most")
                entry.warmup += self._pass(entry).get("end_to_end", [])

    def measure(self, stopping):
        """Rounds A B C, C B A, A B C … until `stopping` (bench.stopping.Stopping) says that they are enough.

        Drift hits all arms alike; one pass of an arm at a time. The yardstick, where there is one, ends each round.
        """
        stopping.start()
        rounds, patience = 0, SETTLING
        if self.sampler:
            self.sampler.resume()
        try:
            while self.running and not stopping.enough(rounds, self.running):
                if self.late and rounds >= ROUNDS_WHEN_LATE:
                    stopping.stopped = "deadline"
                    break
                patience = self._settle(patience)
                begin = time.monotonic(), *busy_seconds()
                for entry in self.running if rounds % 2 == 0 else self.running[::-1]:
                    self.progress.doing(f"{entry.name}: round {rounds + 1}, {stopping.rounds} at most")
                    entry.add(self._pass(entry))
                self._end_round(*begin)
                rounds += 1
                for entry in self.group:
                    entry.rounds += 1
        except KeyboardInterrupt:
            stopping.stopped = "interrupted"
            raise
        finally:
            if self.sampler:
                self.sampler.pause()
            for entry in self.group:
                entry.stopped = stopping.stopped

    def _yardstick(self):
        """{stage: [ms]} of the yardstick now; empty where there is none."""
        return (self.yardstick.call("measure") or {}).get("stages", {}) if self.yardstick.worker else {}

    def _settle(self, patience):
        """Wait until the device is as fast as it has been, `patience` seconds at most; its times begin the round.

        Returns what is left of the patience.
        """
        begin = time.monotonic()
        stages = self._yardstick()
        while stages and not self.quiet.is_quiet(stages) and time.monotonic() - begin < patience:
            time.sleep(LOOKING)
            stages = self._yardstick()
        self.yardstick.add(stages)
        return patience - (time.monotonic() - begin)

    def _end_round(self, begin, busy, own):
        """The yardstick's times after a round that began at `begin`, and the cores that others kept busy meanwhile."""
        passed, (busy_now, own_now) = time.monotonic() - begin, busy_seconds()
        if stages := self._yardstick():
            self.yardstick.add({**stages, OTHERS: [max(0.0, (busy_now - busy - own_now + own) / passed)]})

    def peak_memory(self):
        """Ask every arm of the group for its peak memory."""
        for entry in self.running:
            peak = entry.call("peak_memory")
            if peak:
                entry.add({"peak_memory": [peak["mib"]]})
                entry.counted["peak_memory"] = peak["kind"]
                if peak.get("clock"):
                    entry.versions["GPU clock"] = peak["clock"]

    def measure_cold(self, passes):
        """Passes with the GPU's L2 cache overwritten before each stage; without them an arm has no such stages."""
        for entry in self.running:
            try:
                for i in range(passes):
                    self.progress.doing(f"{entry.name}: cold pass {i + 1} of {passes}")
                    result = entry.attempt("measure", cold=True)
                    self._judge_pass(entry, result["tokens"])
                    if not entry.worker:
                        break
                    entry.add(result["stages"])
            except WorkerFailed as e:
                self.progress.note(f"{entry.name}: no cold stages: {e}")

    def measure_new_lengths(self, prepares):
        """The first request of each prompt length in `prepares` (arguments of that call), which no arm has seen: image
        to first token, with what is compiled for it. No reference knows these prompts, so tokens are not judged."""
        for entry in self.running:
            try:
                for prepare in prepares:
                    if self._no_time_for_cases(entry, 0):
                        break
                    self.progress.doing(f"{entry.name}: a prompt of {len(prepare['prompts'][0])} tokens")
                    compiled = entry.attempt("prepare", **prepare)["compile_ms"] or 0.0
                    entry.add({"new_length": [compiled + ms for ms in entry.attempt("measure")["stages"]["ttft"]]})
            except WorkerFailed as e:
                self.progress.note(f"{entry.name}: no first request of a new length: {e}")

    def measure_case(self, case, prepare, rounds, warmup, names, budget=0):
        """A further case on the arms in `names`, one after the other; what fails there is that case's, not the arm's.

        After the first run, up to `warmup` passes warm up. An arm that has spent `budget` seconds on such cases begins
        no other one (0: no limit). Every pass is judged, see gate.Judge.judge_pass; the first that fails ends the case.
        """
        for entry in (entry for entry in self.running if entry.name in names):
            entry.cases[case] = result = CaseResult()
            if reason := self._no_time_for_cases(entry, budget):
                result.status, result.reason = "skipped", reason
                continue
            self.progress.doing(f"{entry.name}: batch {case.batch}, {case.new_tokens} new tokens")
            begin = time.monotonic()
            try:
                self._add_compile(result, entry.attempt("prepare", **prepare))
                result.add({"first_run": self._case_pass(entry, result)["end_to_end"]})
                while len(result.warmup) < warmup and not is_warm(result.warmup, case.device):
                    result.warmup += self._case_pass(entry, result)["end_to_end"]
                for _ in range(rounds):
                    result.add(self._case_pass(entry, result))
                result.stopped = "rounds"
            except GateFailed as e:
                result.status, result.reason = "failed", f"gate failed: {e}"
            except WorkerFailed as e:
                result.status, result.reason = e.status, str(e)
                if e.alive:
                    self._release(entry)
            entry.case_seconds += time.monotonic() - begin

    def _case_pass(self, entry, result):
        """Stages of one pass of a further case; GateFailed if its tokens are wrong."""
        measured = entry.attempt("measure")
        if not entry.lossy or self.judge.is_rounded(entry.name):
            verdict = self.judge.judge_pass(measured["tokens"], entry.name)
            result.agreement = min(verdict["agreement"], 1.0 if result.agreement is None else result.agreement)
            if not verdict["passed"]:
                raise GateFailed(verdict["reason"])
        return measured["stages"]

    def _no_time_for_cases(self, entry, budget):
        if budget and entry.case_seconds > budget:
            return OUT_OF_CASE_TIME
        if self.share_ends is not None and time.monotonic() > self.share_ends:
            return OUT_OF_TIME if self.late else OUT_OF_SHARE
        return ""

    @staticmethod
    def _release(entry):
        try:
            entry.attempt("release")
        except WorkerFailed:
            entry.close()

    def end_launch(self):
        """End the processes that the group made this launch with; those of the next one may be there. The device's own
        times go on as long as there are any."""
        for entry in self.group:
            entry.end_launch()
            entry.end_worker()
        self.yardstick.end_launch()
        if not self.running:
            self.yardstick.close()
