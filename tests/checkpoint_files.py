"""Checkpoints in every format, made from the golden one, and commands run as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

REPOSITORY = Path(__file__).parent.parent
GOLDEN = REPOSITORY / "tests" / "data" / "tiny" / "checkpoint"


def golden_tensors():
    """Name -> float32 array of the golden checkpoint."""
    return load_file(GOLDEN / "model.safetensors")


def golden_config():
    """The content of the golden config.json."""
    return json.loads((GOLDEN / "config.json").read_text())


def write_checkpoint(folder, tensors, file_name="model.safetensors", config=None):
    """A Hugging Face folder with the given tensors; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or golden_config()))
    save_file(tensors, folder / file_name)
    return folder


def copy_golden(folder):
    """A copy of the golden checkpoint that a test may damage."""
    return Path(shutil.copytree(GOLDEN, folder))


def run(*arguments, **options):
    """Run Python with `arguments` in the repository; returns the finished process with its output as text."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2", **options.pop("env", {})}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=REPOSITORY, env=environment, text=True,
                          capture_output=True, **options)


def run_code(code, *arguments):
    """Run a piece of code in a process of its own, for frameworks that must not share one; it must succeed."""
    done = run("-c", code, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def one_line_error(done):
    """The message of a command that failed as it should: one line, no traceback, exit status 1."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return lines[0]


def bfloat16_bits(array):
    """The upper halves of float32 values, cut off."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
