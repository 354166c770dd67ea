"""Checkpoints in every format, made from the golden one, and commands run as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.config import ModelConfig
from core.errors import UserError
from export import names

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


def fault_of(opened, folder):
    """The message that a way to open the checkpoint `folder` fails with."""
    with pytest.raises(UserError) as caught:
        opened(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 6000
    return message


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


def paddle_arrays(prefix):
    """The golden tensors as Paddle's published checkpoint names and lays them out."""
    arrays, parameters = golden_tensors(), names.parameters(ModelConfig.load(GOLDEN))
    return {("transformer." + p.paddle_name.removeprefix("qwen.") if prefix == "transformer." and
             p.paddle_name.startswith("qwen.") else p.paddle_name.replace("qwen.", prefix)):
            np.ascontiguousarray(arrays[p.name].T) if p.linear else arrays[p.name] for p in parameters}


TORCH_SAVE = """
import json, sys, torch
from safetensors.torch import load_file

def save(state, form, out):
    if form == "sharded":
        places = {n: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, n in enumerate(state)}
        for shard in set(places.values()):
            torch.save({n: state[n] for n in state if places[n] == shard}, f"{out}/{shard}")
        json.dump({"weight_map": places}, open(out + "/pytorch_model.bin.index.json", "w"))
    elif form == "module":  # an OrderedDict with attributes, parameters and a transposed view
        module = torch.nn.ParameterDict({n.replace(".", "!"): t for n, t in state.items()})
        kept = module.state_dict(keep_vars=True)
        state = type(kept)((n.replace("!", "."), t) for n, t in kept.items())
        state._metadata = {"": {"version": 1}}
        state["lm_head.weight"] = state["lm_head.weight"].data.T.contiguous().T
        torch.save(state, out + "/pytorch_model.bin")
    elif form == "shared":  # all tensors are parts of one storage
        flat = torch.cat([t.flatten() for t in state.values()])
        parts = flat.split([t.numel() for t in state.values()])
        torch.save({n: p.view(t.shape) for (n, t), p in zip(state.items(), parts)}, out + "/pytorch_model.bin")
    else:
        torch.save({n: t.to(getattr(torch, form)) for n, t in state.items()}, out + "/pytorch_model.bin")

golden, root, *forms = sys.argv[1:]
for form in forms:
    save(load_file(golden + "/model.safetensors"), form, f"{root}/{form}")
"""


def save_torch(root, *forms, source=GOLDEN):
    """A checkpoint, the golden one, as torch saves it: {form: folder below `root`}.

    forms: "sharded", "module" (parameters and a transposed view), "shared" (one storage) or names of dtypes.
    """
    for form in forms:
        shutil.copytree(source, root / form, ignore=shutil.ignore_patterns("*.safetensors"))
    run_code(TORCH_SAVE, source, root, *forms)
    return {form: root / form for form in forms}
