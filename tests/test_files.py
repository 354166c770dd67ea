"""Files and folders are whole or absent, and leftovers of killed runs go away."""

import os

import pytest

from core import files
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


DEAD = 2 ** 22 + 1  # no process has an id beyond 2^22


@pytest.fixture
def partial(tmp_path):
    """Names of the folder that is made for d[1], with another process's id."""
    with atomic_dir(tmp_path / "d[1]"):
        name, = (path.name for path in tmp_path.iterdir())
    return lambda pid, suffix="": f"{name.rpartition('-')[0]}-{pid}{suffix}"


@pytest.mark.parametrize("suffix", ["", "-replaced"])
def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path, partial, suffix):
    for pid in {DEAD, os.getppid(), 1}:  # the parent may be the first process
        (tmp_path / partial(pid, suffix)).mkdir()
    with atomic_dir(tmp_path / "d[1]"):
        pass
    assert set(os.listdir(tmp_path)) == {partial(os.getppid(), suffix), partial(1, suffix), "d[1]"}


@pytest.mark.parametrize("name", [".d[1].partial-0123456789abcdef-%d", ".d[1].partial-0123456789abcdef-%d-replaced",
                                  ".d[1].partial-%d", ".d[1].partial-", ".d[1].partial-x-y"])
def test_what_others_make_is_left_alone_however_old(tmp_path, partial, name):
    """A process of another container or host has an id that means nothing here."""
    folder = tmp_path / name.replace("%d", str(DEAD))
    folder.mkdir()
    os.utime(folder, (0, 0))
    with atomic_dir(tmp_path / "d[1]"):
        pass
    assert folder.is_dir()


@pytest.mark.parametrize("pid", ["", "²", "7" * 30, "-1"])
def test_names_that_hold_no_process_are_left_alone(tmp_path, partial, pid):
    folder = tmp_path / partial(pid)
    folder.mkdir()
    with atomic_dir(tmp_path / "d[1]"):
        pass
    assert folder.is_dir()


def test_another_boot_or_namespace_gives_another_name(monkeypatch):
    mine = files._processes()
    assert files._processes.__wrapped__() == mine
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    assert files._processes.__wrapped__() != mine


def test_a_machine_that_does_not_tell_judges_nobody(monkeypatch):
    def hidden(path):
        raise PermissionError
    monkeypatch.setattr(os, "readlink", hidden)
    assert files._processes.__wrapped__() != files._processes.__wrapped__()


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
