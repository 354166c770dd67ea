"""The torch baseline reads published checkpoints: one file or shards, any of the three dtypes, faults named."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests/data/tiny/checkpoint"
# Twice what rounding the golden weights to bfloat16 does (tests/data/README.md); float16 has three bits more.
FEATURES, LOGITS = 2 * 0.055, 2 * 0.23
ROUNDING = {"bfloat16": 1, "float16": 1 / 8}


def checkpoint(folder, tensors):
    """Write a checkpoint in two shards with their index."""
    folder.mkdir()
    shutil.copy(TINY / "config.json", folder)
    names, weight_map = sorted(tensors), {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def damage(folder, fault):
    path = folder / "model-00001-of-00002.safetensors"
    if fault == "shard missing":
        path.unlink()
    elif fault == "shard truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif fault == "index is no index":
        (folder / "model.safetensors.index.json").write_text("[]")
    return folder


FAULTS = {"shard missing": "no model-00001-of-00002.safetensors", "shard truncated": "not a whole safetensors file",
          "index is no index": "no safetensors index"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What every checkpoint gives, all loaded by one process: {name: {"features", "logits"} or {"error"}}."""
    root = tmp_path_factory.mktemp("checkpoints")
    tensors = load_file(TINY / "model.safetensors")
    changed = {name: tensor for name, tensor in tensors.items() if name != "transformer.ln_f.weight"}
    changed["transformer.extra"] = tensors["transformer.ln_f.weight"]
    changed["lm_head.weight"] = tensors["lm_head.weight"][:7]
    cases = {"whole": ("float32", TINY), "bfloat16": ("bfloat16", TINY), "float16": ("float16", TINY),
             "shards": ("float32", checkpoint(root / "shards", tensors)),
             "other keys": ("float32", checkpoint(root / "keys", changed))}
    for i, fault in enumerate(FAULTS):
        cases[fault] = ("float32", damage(checkpoint(root / str(i), tensors), fault))
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    pairs = [str(value) for pair in cases.values() for value in pair]
    done = subprocess.run([python, str(ROOT / "tests/torch_checkpoints.py"), *pairs], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(cases, json.loads(done.stdout.splitlines()[-1])))


def test_shards_give_the_same(loaded):
    assert loaded["shards"] == loaded["whole"]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name, limit", [("features", FEATURES), ("logits", LOGITS)])
def test_half_precision(loaded, dtype, name, limit):
    difference = np.abs(np.subtract(loaded[dtype][name], loaded["whole"][name])).max()
    assert 0 < difference < limit * ROUNDING[dtype]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_files(loaded, fault):
    assert FAULTS[fault] in loaded[fault]["error"]


def test_faults_of_keys_and_shapes(loaded):
    for name in ("transformer.ln_f.weight", "transformer.extra", "lm_head.weight"):
        assert name in loaded["other keys"]["error"]
