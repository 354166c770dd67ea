"""The benchmark over checkpoints that are no safetensors: the arms agree, and their hashes are in the rows."""

import json

import pytest
from checkpoint_files import run, save_torch

from bench.provenance import checkpoint_identity
from bench.schema import read_rows
from core.errors import UserError
from export.checkpoint import open_checkpoint
from export.convert import convert
from export.synthetic import write_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{format: folder} of one random checkpoint."""
    root = tmp_path_factory.mktemp("formats")
    tiny = write_checkpoint("tiny", root / "tiny")
    saved = save_torch(root, "sharded", "float32", source=tiny)
    return {"safetensors": tiny, "bin": saved["float32"], "bin shards": saved["sharded"],
            "pdparams": convert(saved["sharded"], root / "converted")}


def test_identity_of_every_format(folders):
    found = {form: checkpoint_identity(open_checkpoint(folder), []) for form, folder in folders.items()}
    assert all(len(identity["hash"]) == 32 and identity["synthetic"] and identity["seed"] == 0
               for identity in found.values())
    assert found["pdparams"] == found["bin shards"]   # converted from it
    assert len({identity["hash"] for identity in found.values()}) == 3


@pytest.mark.parametrize("form", ["bin", "bin shards"])
def test_exports_must_be_of_these_weights(folders, tmp_path, form):
    checkpoint = open_checkpoint(folders[form])
    (tmp_path / "vision").mkdir()
    manifest = tmp_path / "vision" / "manifest.json"
    manifest.write_text(json.dumps({"checkpoint": {"hash": checkpoint.hash()}}))
    assert checkpoint_identity(checkpoint, [tmp_path])["hash"] == checkpoint.hash()
    manifest.write_text(json.dumps({"checkpoint": {"hash": open_checkpoint(folders["safetensors"]).hash()}}))
    with pytest.raises(UserError, match="different weights"):
        checkpoint_identity(checkpoint, [tmp_path])


def test_frameworks_agree_over_shards_of_torch(folders, tmp_path):
    """As `make bench` goes: the graphs come from what was converted, the PyTorch arm reads the checkpoint itself."""
    done = run("-m", "export", "all", folders["pdparams"], tmp_path / "fused")
    assert done.returncode == 0, done.stderr[-2000:]
    done = run("-m", "bench", "run", "--checkpoint", folders["bin shards"], "--exported-fused", tmp_path / "fused",
               "--arms", "torch-eager,paddle-fused", "--out", tmp_path / "out", "--rounds", 1, "--warmup", 0,
               "--device", "cpu", "--threads", 1, "--new-tokens", 3)
    assert done.returncode == 0, done.stderr[-2000:]
    path, = (tmp_path / "out").rglob("rows.jsonl")
    rows = read_rows(path)
    assert {(row.arm, row.status) for row in rows} == {("torch-eager", "ok"), ("paddle-fused", "ok")}
    assert {row.provenance["checkpoint"]["hash"] for row in rows} == {open_checkpoint(folders["bin shards"]).hash()}
    accuracy = json.loads((path.parent / "accuracy.json").read_text())
    assert accuracy["arms"]["paddle-fused"]["tokens"]["equal"]
