"""The parent's side of a worker: start it, call it, stop it while others are measured, say why it failed."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path

from bench.worker import PROTOCOL
from core.text import escaped

ROOT = Path(__file__).parents[1]
FIRST_PROTOCOL = 1  # spoken by a worker that states none
DYING_SECONDS = 30  # a process that holds much memory needs a while to go


class WorkerFailed(Exception):
    """A worker's failure: `status` "failed" or "oom", str() one line with the reason, `alive` if it can go on."""

    def __init__(self, reason, status="failed", alive=False):
        super().__init__(escaped(reason))
        self.status, self.alive = status, alive


def oom_kills():
    """How often the kernel has killed a process for want of memory since it started."""
    try:
        with open("/proc/vmstat", encoding="ascii") as f:
            return next((int(line.split()[1]) for line in f if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


class Worker:
    """One arm's process: made, waited for, called. All of it raises WorkerFailed.

    A worker that answered a call with a failure is alive; after any other failure it is closed.
    """

    def __init__(self, target, python, log, env=None, timeout=1800, root=ROOT):
        """Start `python -m bench.worker target` on the code of the tree `root`.

        Its stderr goes to the file `log`, `env` adds to the environment.
        """
        self.log, self.timeout, self.kills = Path(log), timeout, oom_kills()
        env = {**os.environ, **(env or {})}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), env.get("PYTHONPATH"))))
        try:
            with open(self.log, "wb") as stderr:
                self.process = subprocess.Popen([python, "-P", "-m", "bench.worker", target], env=env, stderr=stderr,
                                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as e:
            raise WorkerFailed(f"cannot start {python}: {e.strerror}") from None
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def wait_ready(self):
        """Wait until the framework is imported; before the first call."""
        try:
            spoken = self._answer().get("protocol", FIRST_PROTOCOL)
            if spoken != PROTOCOL:
                raise WorkerFailed(f"the worker speaks protocol {spoken}, this version {PROTOCOL}: run both from the "
                                   "same version of the repository")
        except WorkerFailed:
            self.close()
            raise

    def call(self, name, /, **args):
        """The result of one call in the worker."""
        line = json.dumps({"call": name, "args": args}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # then it has died, and _answer says of what
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        return self._answer().get("result")

    def _answer(self):
        deadline = time.monotonic() + self.timeout
        while b"\n" not in self.buffer:
            if not self.selector.select(max(0, deadline - time.monotonic())):
                self.close()
                raise WorkerFailed(f"no answer in {self.timeout} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._death()
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply = json.loads(line)
        if not reply["ok"]:
            raise WorkerFailed(reply["reason"], reply["status"], alive=True)
        return reply

    def _death(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(DYING_SECONDS)
        code = self.process.poll()
        self.close()
        if code is None:
            return WorkerFailed("closed its output without ending")
        if code == -signal.SIGKILL and oom_kills() > self.kills:
            return WorkerFailed("killed by the kernel: the machine ran out of memory", "oom")
        with open(self.log, "rb") as f:
            f.seek(max(0, os.path.getsize(self.log) - 4096))
            lines = f.read().decode(errors="replace").strip().splitlines()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        return WorkerFailed(f"{how}: {lines[-1].strip()[:300]}" if lines else how)

    def pause(self):
        """Stop the process: spinning threads of an idle arm would take time from the arm that is measured."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        """End the process, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
