"""Worker processes: calls, noise on stdout, every way to die."""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import process
from bench.process import Worker, WorkerFailed

FAKE = "tests.bench_fake_arm:FakeArm"
LOAD = {"source": ".", "dtype": "float32", "device": "cpu", "threads": 1}


@pytest.fixture
def start(tmp_path):
    """Start a worker with the fake arm, loaded and prepared for 4 new tokens."""
    workers = []

    def started(target=FAKE, python=sys.executable, prepare=True, timeout=60, **options):
        worker = Worker(target, python, tmp_path / f"{len(workers)}.log", timeout=timeout)
        workers.append(worker)
        worker.wait_ready()
        if prepare:
            worker.call("load", **LOAD, **options)
            np.save(tmp_path / "image.npy", np.full([20, 30, 3], 128, np.uint8))
            worker.call("prepare", image=str(tmp_path / "image.npy"), prompts=[[1, 2, 3]], new_tokens=4)
        return worker

    yield started
    for worker in workers:
        worker.close()


def test_calls_answer_although_libraries_print(start):
    worker = start()
    result = worker.call("measure")
    assert set(result["stages"]) == {"preprocess", "vision", "prefill", "ttft", "decode", "token", "host_step",
                                     "end_to_end", "without_preprocess"}
    assert len(result["stages"]["token"]) == 1
    assert len(result["tokens"]) == 1 and len(result["tokens"][0]) == 4
    assert b"a library prints" in worker.log.read_bytes()
    assert worker.call("peak_memory") == {"mib": 1.0, "kind": "what the test says", "clock": None}


def test_stages_add_up(start):
    stages = start().call("measure")["stages"]
    parts = [stages[name][0] for name in ("preprocess", "vision", "prefill", "decode")]
    assert sum(parts) == pytest.approx(stages["end_to_end"][0])
    assert sum(parts[:3]) == pytest.approx(stages["ttft"][0])
    assert 3 * stages["token"][0] == pytest.approx(stages["decode"][0])   # the mean of three steps
    assert stages["without_preprocess"][0] == pytest.approx(sum(parts[1:]))


def test_versions_come_from_the_worker(start):
    versions = start(prepare=False).call("load", **LOAD)["versions"]
    assert versions["fake"] == "bench_fake_arm.py" and "numpy" in versions


def test_outputs_go_through_a_file(start, tmp_path):
    start().call("outputs", path=str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs["logits"].shape == (1, 4, 32)
        assert outputs["image_features"].shape == (1, 4, 8)


def test_stopped_worker_goes_on(start):
    worker = start()
    worker.pause()
    os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED | os.WNOWAIT)
    worker.resume()
    assert worker.call("measure")


def test_stopped_worker_can_be_closed(start):
    worker = start()
    worker.pause()
    worker.close()
    assert worker.process.returncode is not None


@pytest.mark.parametrize("trouble, status, reason", [
    ("error at load", "failed", "RuntimeError: the kernel of this test does not exist"),
    ("memory at load", "oom", "out of memory"),
    ("killed at load", "failed", "killed by SIGKILL"),
])
def test_failures_have_a_status_and_a_reason(start, trouble, status, reason):
    with pytest.raises(WorkerFailed, match=reason) as e:
        start(trouble=trouble)
    assert e.value.status == status and "\n" not in str(e.value)


def test_worker_of_another_protocol_is_refused(start, monkeypatch):
    monkeypatch.setattr(process, "PROTOCOL", 99)
    with pytest.raises(WorkerFailed, match="speaks protocol 1, this version 99: run both from the same version"):
        start(prepare=False)


def test_worker_that_states_no_protocol_speaks_the_first(tmp_path):
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\necho '{\"ok\": true}'\nexec cat > /dev/null\n")
    silent.chmod(0o755)
    worker = Worker(FAKE, str(silent), tmp_path / "log")
    worker.wait_ready()
    worker.close()


def test_loaded_libraries_are_read_again_after_the_first_use(start, tmp_path):
    assert set(start().call("outputs", path=str(tmp_path / "out.npz"))) == {"loaded"}


def test_worker_that_died_between_calls(start):
    worker = start()
    worker.process.kill()
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        worker.call("measure")


@pytest.mark.parametrize("target, python, reason", [
    (FAKE, "/no/such/python", "cannot start /no/such/python"),
    ("no_such_module:Arm", sys.executable, "No module named 'no_such_module'"),
    ("tests.bench_fake_arm:NoArm", sys.executable, "NoArm"),
    (FAKE, "/bin/false", "exited with status 1"),
])
def test_worker_that_cannot_start(start, target, python, reason):
    with pytest.raises(WorkerFailed, match=reason):
        start(target, python, prepare=False)


def test_silent_worker_is_given_up(start):
    with pytest.raises(WorkerFailed, match="no answer in 0.2 s: it was ended"):
        start(python=str(Path(__file__).with_name("silent_python.sh")), prepare=False, timeout=0.2)


def test_a_call_is_given_up_at_the_deadline_of_the_run(start, monkeypatch):
    monkeypatch.setattr(process, "LAST_CALL_SECONDS", 0)
    worker = start()
    worker.deadline = time.monotonic() + 0.1
    with pytest.raises(WorkerFailed, match="by the deadline of the run: it was ended") as e:
        worker.call("load", **LOAD, trouble="hangs at load")
    assert not e.value.alive and worker.process.returncode == -signal.SIGTERM


def test_a_call_after_the_deadline_has_its_last_seconds(start):
    worker = start()
    worker.deadline = time.monotonic() - 1
    assert worker.call("measure")


def has_ended(child):
    """Wait for a process that may be nobody's child, and may stay a zombie."""
    try:
        handle = os.pidfd_open(child)
    except ProcessLookupError:
        return True
    return bool(select.select([handle], [], [], 30)[0])


@pytest.fixture
def with_children(start, monkeypatch):
    """(worker, [ids of its two children]), all of which ignore SIGTERM; the second is in a session of its own."""
    monkeypatch.setattr(process, "ENDING_SECONDS", 0.1)
    worker = start(trouble="children at load")
    children = [child.pid for child in psutil.Process(worker.process.pid).children(recursive=True)]
    children.sort(key=lambda child: os.getsid(child) == child)
    assert len(children) == 2
    yield worker, children
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_children_of_a_worker_are_ended_with_it(with_children):
    worker, children = with_children
    worker.close()
    assert worker.process.returncode == -signal.SIGKILL and all(map(has_ended, children))


def test_children_of_a_worker_that_was_killed_are_ended(with_children):
    worker, children = with_children
    worker.process.kill()
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        worker.call("measure")
    assert has_ended(children[0])


def test_a_worker_that_takes_no_request_is_given_up(start):
    worker = start()
    worker.timeout = 0.2
    worker.pause()
    with pytest.raises(WorkerFailed, match="no answer in 0.2 s"):
        worker.call("prepare", image="x" * (1 << 20))
