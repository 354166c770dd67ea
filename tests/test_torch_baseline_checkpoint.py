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


def load(folder, dtype="float32"):
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    return subprocess.run([python, str(ROOT / "tests/torch_half.py"), str(folder), dtype], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=300)


def results(folder, dtype="float32"):
    done = load(folder, dtype)
    assert done.returncode == 0, done.stderr[-2000:]
    return {name: np.array(values) for name, values in json.loads(done.stdout.splitlines()[-1]).items()}


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


@pytest.fixture(scope="module")
def tensors():
    return load_file(TINY / "model.safetensors")


@pytest.fixture(scope="module")
def whole():
    return results(TINY)


def test_shards_give_the_same(whole, tensors, tmp_path):
    sharded = results(checkpoint(tmp_path / "sharded", tensors))
    assert all(np.array_equal(sharded[name], whole[name]) for name in whole)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_half_precision(whole, dtype):
    half = results(TINY, dtype)
    assert 0 < np.abs(half["features"] - whole["features"]).max() < FEATURES * ROUNDING[dtype]
    assert 0 < np.abs(half["logits"] - whole["logits"]).max() < LOGITS * ROUNDING[dtype]


def damage(folder, fault):
    path = folder / "model-00001-of-00002.safetensors"
    if fault == "shard missing":
        path.unlink()
    elif fault == "shard truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif fault == "index is no index":
        (folder / "model.safetensors.index.json").write_text("[]")


@pytest.mark.parametrize("fault, message", [
    ("shard missing", "no model-00001-of-00002.safetensors"), ("shard truncated", "not a whole safetensors file"),
    ("index is no index", "no safetensors index")])
def test_faults_of_files(tensors, tmp_path, fault, message):
    folder = checkpoint(tmp_path / "damaged", tensors)
    damage(folder, fault)
    done = load(folder)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1]


def test_faults_of_keys_and_shapes(tensors, tmp_path):
    changed = {name: tensor for name, tensor in tensors.items() if name != "transformer.ln_f.weight"}
    changed["transformer.extra"] = tensors["transformer.ln_f.weight"]
    changed["lm_head.weight"] = tensors["lm_head.weight"][:7]
    line = load(checkpoint(tmp_path / "changed", changed)).stderr.splitlines()[-1]
    for text in ("error: ", "transformer.ln_f.weight", "transformer.extra", "lm_head.weight"):
        assert text in line
