"""Files and folders are whole or absent, and leftovers of killed runs go away."""

import os

import pytest

from core.files import atomic_dir, atomic_file, file_hash


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as f:
        f.write(b"new")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for content in ("old", "new"):
        with atomic_dir(tmp_path / "d") as folder:
            (folder / content).write_text(content)
    assert os.listdir(tmp_path / "d") == ["new"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    with atomic_dir(tmp_path / "d") as folder:
        (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_dir(tmp_path / "d") as folder:
        (folder / "new").touch()
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path / "d") == ["old"]
    assert os.listdir(tmp_path) == ["d"]


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path):
    dead, live = 2 ** 22 + 1, os.getppid()  # no process has an id beyond 2^22
    for pid in (dead, live):
        for suffix in ("", "-replaced"):
            (tmp_path / f".d.partial-{pid}{suffix}").mkdir()
    with atomic_dir(tmp_path / "d"):
        pass
    assert sorted(os.listdir(tmp_path)) == [f".d.partial-{live}", f".d.partial-{live}-replaced", "d"]


def test_hash_sees_every_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("core.files.HASH_CHUNK", 16)
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    before = file_hash(path)
    for at in (0, 15, 16, 99):
        changed = bytearray(100)
        changed[at] = 1
        path.write_bytes(changed)
        assert file_hash(path) != before
    path.write_bytes(bytes(101))
    assert file_hash(path) != before
