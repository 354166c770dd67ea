"""The parent's side of a worker: start it, call it, stop it while others are measured, say why it failed."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path

import psutil

from bench.git import ROOT
from bench.worker import PROTOCOL
from core.text import escaped

FIRST_PROTOCOL = 1  # spoken by a worker that states none
LAST_CALL_SECONDS = 20  # a call has at least these, so that arms can make their last rounds after the deadline
ENDING_SECONDS = 5  # from SIGTERM to SIGKILL
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

    A worker that answered a call with a failure is alive; after any other failure it is closed, and what it started
    is ended with it. It leads a session of its own, so that all of that can be found.
    """

    def __init__(self, target, python, log, env=None, timeout=1800, root=ROOT, deadline=None):
        """Start `python -m bench.worker target` on the code of the tree `root`.

        Its stderr goes to the file `log`, `env` adds to the environment. An answer may take `timeout` seconds, but no
        longer than to `deadline`, a time.monotonic() moment, or LAST_CALL_SECONDS where it is asked for later.
        """
        self.log, self.timeout, self.deadline, self.kills = Path(log), timeout, deadline, oom_kills()
        self.closed, self.begun = False, None   # begun: name of a call whose result was not asked for yet
        env = {**os.environ, **(env or {})}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), env.get("PYTHONPATH"))))
        try:
            with open(self.log, "wb") as stderr:
                self.process = subprocess.Popen([python, "-P", "-m", "bench.worker", target], env=env, stderr=stderr,
                                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        except OSError as e:
            raise WorkerFailed(f"cannot start {python}: {e.strerror}") from None
        self.buffer = b""
        os.set_blocking(self.process.stdin.fileno(), False)

    def wait_ready(self):
        """Wait until the framework is imported; before the first call."""
        try:
            protocol = self._answer(self._limit()).get("protocol", FIRST_PROTOCOL)
            if protocol != PROTOCOL:
                raise WorkerFailed(f"the worker speaks protocol {protocol}, this version {PROTOCOL}: run both from the "
                                   "same version of the repository")
        except WorkerFailed:
            self.close()
            raise

    def __enter__(self):
        self.wait_ready()
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, name, /, **args):
        """The result of one call in the worker."""
        if self.begun != name:
            self.begin(name, **args)
        self.begun = None
        return self._answer(self._limit()).get("result")

    def begin(self, name, /, **args):
        """Ask for a call whose result the next `call` of that name returns: other workers may be asked meanwhile."""
        line, limit = (json.dumps({"call": name, "args": args}) + "\n").encode(), self._limit()
        with contextlib.suppress(BrokenPipeError):  # then it has died, and _answer says of what
            while line:
                self._wait_for(self.process.stdin, selectors.EVENT_WRITE, limit)
                line = line[os.write(self.process.stdin.fileno(), line):]
        self.begun = name

    def wait_answered(self):
        """Wait for the answer to what was begun, or until no answer can come."""
        limit = self._limit()
        while b"\n" not in self.buffer and self._read(limit):
            pass

    def _limit(self):
        """The time.monotonic() moment at which a call that begins now is given up."""
        now = time.monotonic()
        limit = now + self.timeout
        return limit if self.deadline is None else min(limit, max(self.deadline, now + LAST_CALL_SECONDS))

    def _wait_for(self, pipe, event, limit):
        """Return when a pipe of the worker is ready; a worker that is not by the moment `limit` hangs, and is ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            ready = selector.select(max(0, limit - time.monotonic()))
        if not ready:
            past_deadline = self.deadline is not None and limit >= self.deadline
            self.close()
            raise WorkerFailed("no answer by the deadline of the run: it was ended" if past_deadline else
                               f"no answer in {self.timeout} s: it was ended")

    def _read(self, limit):
        """Add what the worker has written to the buffer; false where it has closed its output."""
        self._wait_for(self.process.stdout, selectors.EVENT_READ, limit)
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        self.buffer += data
        return bool(data)

    def _answer(self, limit):
        while b"\n" not in self.buffer:
            if not self._read(limit):
                raise self._death()
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
        """End the process and what it started, whatever state they are in: asked by SIGTERM, then made to."""
        if self.closed:
            return
        self.closed, started = True, []
        with contextlib.suppress(psutil.Error):  # also those that have left its process group
            started = psutil.Process(self.process.pid).children(recursive=True)
        for sign, seconds in ((signal.SIGTERM, ENDING_SECONDS), (signal.SIGKILL, DYING_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
                os.killpg(self.process.pid, signal.SIGCONT)  # one that is stopped does not see the other
            for process in started:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(sign)
                    process.resume()
            with contextlib.suppress(subprocess.TimeoutExpired):  # of SIGKILL: it hangs in the kernel
                self.process.wait(seconds)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
