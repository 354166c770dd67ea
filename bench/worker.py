"""A worker process: one arm, driven by JSON lines on stdin, answering on stdout.

Request {"call": name, "args": {…}}; answer {"ok": true, "result": …} or {"ok": false, "status": "failed" | "oom" |
"skipped" (this machine cannot run the arm), "reason": one line}. The first line is an answer without a request, with
"protocol". What libraries print to stdout goes to stderr. The worker ends with its stdin, and with its parent, even
while it is stopped. Run as `python -m bench.worker module:Class`.
"""

import ctypes
import importlib
import json
import os
import platform
import signal
import sys
import traceback
from importlib import metadata
from pathlib import Path

import numpy as np

from bench.loaded import loaded_libraries
from core.errors import NotHere, UserError
from infer.tokenizer import Tokenizer

PROTOCOL = json.loads(Path(__file__).with_name("protocol.json").read_bytes())   # of the calls below; stated there for
# other versions (bench/versions.py) and in the first answer (bench/process.py)
PR_SET_PDEATHSIG = 1
WHEELS = ("numpy", "Pillow", "safetensors", "paddlepaddle", "paddlepaddle-gpu", "torch", "transformers", "torchao",
          "vllm")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "resourceexhausted",
                 "bad_alloc", "alloc_failed")


def is_out_of_memory(error):
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def installed_versions():
    """Versions of the wheels that this interpreter has, by importlib.metadata."""
    versions = {"python": platform.python_version()}
    for name in WHEELS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


class Server:
    """The calls that a parent may make, on one arm or on what measures the ceilings; what is not here is its own."""

    def __init__(self, target):
        module, _, name = target.partition(":")
        self.arm = getattr(importlib.import_module(module), name)()

    def load(self, **args):
        loaded = self.arm.load(**args)
        return {**loaded, "versions": {**installed_versions(), **self.arm.versions(), "loaded": loaded_libraries()}}

    def __getattr__(self, name):
        return getattr(self.arm, name)

    def outputs(self, path):
        """Write what the gate compares to a new .npz file; frameworks load some libraries only when they are used."""
        np.savez(path, **self.arm.outputs())
        return {"loaded": loaded_libraries(), **({"chosen": self.arm.chosen} if self.arm.chosen else {})}

    def text_logits(self, path, ids):
        """Write the logits of a text to a new .npz file."""
        np.savez(path, logits=self.arm.text_logits(ids))

    def published(self, image, vocabulary, image_start_id, passes):
        """Milliseconds of `passes` passes by the published protocol, one after the other, warm-up included."""
        tokenizer = Tokenizer(vocabulary, image_start_id)
        return {"ms": [self.arm.published_pass(image, tokenizer) for _ in range(passes)]}

    def peak_memory(self):
        value, kind = self.arm.peak_memory()
        return {"mib": value, "kind": kind, "clock": self.arm.clock_state()}


def answer(function, args):
    """Call and turn any failure into an answer; the traceback goes to stderr."""
    try:
        return {"ok": True, "result": function(**args)}
    except Exception as e:  # whatever a framework raises is this arm's result, not the end of the comparison
        traceback.print_exc()
        lines = str(e).split("\n")
        reason = next((line.strip() for line in lines if line.strip()), "") or type(e).__name__
        text = reason if isinstance(e, UserError) else f"{type(e).__name__}: {reason}"
        status = "oom" if is_out_of_memory(e) else "skipped" if isinstance(e, NotHere) else "failed"
        return {"ok": False, "status": status, "reason": text[:500]}


def serve(target, requests, answers):
    """Answer requests until their end; the first line says whether the arm could be made."""
    def send(reply):
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    ready = answer(lambda: Server(target), {})
    server = ready.pop("result", None)
    send({**ready, "protocol": PROTOCOL})
    if server is None:
        return
    for line in requests:
        request = json.loads(line)
        send(answer(getattr(server, request["call"]), request["args"]))


def main():
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # the parent died before the line above
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    serve(sys.argv[1], sys.stdin, answers)


if __name__ == "__main__":
    main()
