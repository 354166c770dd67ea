"""Identity by content: a file is read again when the file system says that it was written, and only then."""

import os
import shutil

import pytest

from core import identity as module
from core.files import file_hash
from core.identity import checkpoint_files, hashes, identity

OLD = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"first")
    os.utime(path, OLD)
    return path


def replaced_by_copy(path):
    """As cp -p and rsync --inplace do it: written in place, same size, old time."""
    path.write_bytes(b"other")
    os.utime(path, OLD)


def replaced_by_rename(path):
    """As mv, tar and rsync -a do it."""
    other = path.with_name("other")
    replaced_by_copy(other)
    os.replace(other, path)


def replaced_by_link(path):
    other = path.with_name("other")
    replaced_by_copy(other)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("replace", [replaced_by_copy, replaced_by_rename, replaced_by_link])
def test_replaced_with_an_old_time(weights, replace):
    first, seen = hashes({"w": weights}, {})
    replace(weights)
    second, _ = hashes({"w": weights}, seen)
    assert first["w"] != second["w"] == file_hash(weights)


def test_unchanged_file_is_not_read(weights, monkeypatch):
    first, seen = hashes({"w": weights}, {})
    monkeypatch.setattr(module, "file_hash", lambda path: pytest.fail("read again"))
    assert hashes({"w": weights}, seen) == (first, seen)


def test_touched_file_is_the_same(weights):
    first, seen = hashes({"w": weights}, {})
    os.utime(weights)
    second, now = hashes({"w": weights}, seen)
    assert second == first and now != seen


def test_every_file_counts(tmp_path):
    names = ["config.json", "generation_config.json", "model.safetensors.index.json", "qwen.tiktoken", "a.safetensors",
             "pytorch_model.bin", "model_state.pdparams"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "README.md").write_text("no part of it")
    assert list(checkpoint_files(tmp_path)) == sorted(names)
    whole = identity(hashes(checkpoint_files(tmp_path), {})[0])
    for name in names:
        (tmp_path / name).write_text("other")
        assert identity(hashes(checkpoint_files(tmp_path), {})[0]) != whole
        (tmp_path / name).write_text(name)
    copy = shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert identity(hashes(checkpoint_files(copy), {})[0]) == whole


def test_names_count(tmp_path):
    assert identity({"a": "1", "b": "2"}) != identity({"a": "2", "b": "1"})
