"""The torch baseline reads checkpoints of every format and gives the same with each; faults are named."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from checkpoint_files import (
    GOLDEN,
    REPOSITORY,
    bfloat16_bits,
    golden_config,
    golden_tensors,
    paddle_arrays,
    save_torch,
    write_checkpoint,
)
from safetensors.numpy import save_file

from export.convert import convert

# Twice what rounding the golden weights to bfloat16 does (tests/data/README.md); float16 has three bits more.
FEATURES, LOGITS = 2 * 0.055, 2 * 0.23
ROUNDING = {"bfloat16": 1, "float16": 1 / 8}
HEAD = "lm_head.weight"


def shards(folder, tensors):
    """A checkpoint in two safetensors files with their index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(golden_config()))
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def pickled(folder, arrays):
    """A checkpoint of Paddle's published names."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(golden_config()))
    (folder / "model_state.pdparams").write_bytes(pickle.dumps(arrays, protocol=4))
    return folder


def damaged(folder, how):
    path = shards(folder, golden_tensors()) / "model-00001-of-00002.safetensors"
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000])
    return folder


def with_head(folder, change):
    arrays = golden_tensors()
    arrays[HEAD] = change(arrays[HEAD].copy())
    return write_checkpoint(folder, arrays)


def other_keys(folder):
    arrays = golden_tensors()
    arrays["transformer.extra"] = arrays.pop("transformer.ln_f.weight")
    arrays[HEAD] = arrays[HEAD][:7]
    return write_checkpoint(folder, arrays)


def set_to(value):
    def change(head):
        head[3, 3] = value
        return head
    return change


def upper_halves(arrays):
    """float32 arrays as those of bfloat16 values, and their bits."""
    bits = {name: bfloat16_bits(array) for name, array in arrays.items()}
    return {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in bits.items()}, bits


TORCH_FORMS = ["float32", "sharded", "module", "shared"]  # of pytorch_model*.bin
# name -> how the folder is made; each holds the golden weights
FORMATS = {
    "safetensors shards": lambda folder: shards(folder, golden_tensors()),
    "pdparams": lambda folder: pickled(folder, paddle_arrays("transformer.")),
    "pdparams, newer names": lambda folder: pickled(folder, paddle_arrays("transformer.llm.")),
    "converted": lambda folder: convert(GOLDEN, folder),
}
# the golden weights rounded to half precision, loaded as float32: each beside the same values stored as float32
HALF = {
    "pdparams bfloat16": lambda folder: pickled(folder, upper_halves(paddle_arrays("transformer."))[1]),
    "the same as float32": lambda folder: write_checkpoint(folder, upper_halves(golden_tensors())[0]),
    "safetensors float16": lambda folder: write_checkpoint(
        folder, {name: array.astype(np.float16) for name, array in golden_tensors().items()}),
}
# name -> (dtype, how the folder is made, what the error says)
FAULTS = {
    "shard missing": ("float32", lambda folder: damaged(folder, "missing"), ["model-00001-of-00002.safetensors"]),
    "shard truncated": ("float32", lambda folder: damaged(folder, "truncated"), ["truncated"]),
    "other keys": ("float32", other_keys, ["1 missing: transformer.ln_f.weight", "1 unexpected: transformer.extra",
                                           "lm_head.weight [7, 256] instead of [512, 256]"]),
    "NaN": ("float32", lambda folder: with_head(folder, set_to(np.nan)), [f"tensor '{HEAD}' holds NaN"]),
    "infinity in float16": ("float16", lambda folder: with_head(folder, set_to(np.inf)), ["holds infinity"]),
    "too large": ("float16", lambda folder: with_head(folder, set_to(-1e5)),
                  [f"{HEAD} holds 100000, beyond the range of float16 (65504): use DTYPE=bfloat16"]),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What every checkpoint gives, all loaded by one process: {name: {"features", "logits", "tokens"} or {"error"}}."""
    root = tmp_path_factory.mktemp("checkpoints")
    cases = {"whole": ("float32", GOLDEN), "bfloat16": ("bfloat16", GOLDEN), "float16": ("float16", GOLDEN)}
    cases |= {name: ("float32", make(root / name)) for name, make in {**FORMATS, **HALF}.items()}
    cases |= {name: (dtype, make(root / name)) for name, (dtype, make, _) in FAULTS.items()}
    saved = save_torch(root, *TORCH_FORMS, *ROUNDING)
    cases |= {f"bin {form}": ("float32", folder) for form, folder in saved.items()}
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    pairs = [str(value) for pair in cases.values() for value in pair]
    done = subprocess.run([python, str(REPOSITORY / "tests/torch_checkpoints.py"), *pairs], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
                          timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(cases, json.loads(done.stdout.splitlines()[-1])))


def assert_same(one, other):
    """The same weights, which may lie differently aligned."""
    assert one["tokens"] == other["tokens"] and len(one["tokens"]) == 8
    for name in ("features", "logits"):
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [*FORMATS, *(f"bin {form}" for form in TORCH_FORMS)])
def test_every_format_gives_the_same(loaded, form):
    assert_same(loaded[form], loaded["whole"])


def test_half_precision_checkpoints_as_float32(loaded):
    assert_same(loaded["pdparams bfloat16"], loaded["the same as float32"])
    assert_same(loaded["bin float16"], loaded["safetensors float16"])
    rounded = np.abs(np.subtract(loaded["bin bfloat16"]["logits"], loaded["whole"]["logits"])).max()
    assert 0 < rounded < LOGITS


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name, limit", [("features", FEATURES), ("logits", LOGITS)])
def test_half_precision(loaded, dtype, name, limit):
    difference = np.abs(np.subtract(loaded[dtype][name], loaded["whole"][name])).max()
    assert 0 < difference < limit * ROUNDING[dtype]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(loaded, fault):
    error = loaded[fault]["error"]
    assert all(words in error for words in FAULTS[fault][2]) and "\n" not in error, error
