"""Stamps: content decides whether a target is made again; whatever the times, make is told by the stamp's."""

import os

import pytest

from scripts.stamp import stamp

FUTURE = (4_000_000_000, 4_000_000_000)


@pytest.fixture
def made(tmp_path):
    """(stamp, target, source) after the target was made."""
    source, target, path = tmp_path / "source", tmp_path / "target", tmp_path / "stamps" / "of" / "target"
    source.write_text("one")
    assert not stamp(path, target, files=[source])
    finish(path, target)
    assert stamp(path, target, files=[source])
    return path, target, source


def finish(path, target):
    """Make the target, as a recipe does: `touch -r`."""
    target.write_text("made")
    os.utime(target, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))


def newer(path, target):
    """What make sees."""
    return path.stat().st_mtime_ns > target.stat().st_mtime_ns


def test_nothing_changed(made):
    path, target, source = made
    before = path.stat().st_mtime_ns
    assert stamp(path, target, files=[source])
    assert path.stat().st_mtime_ns == before and not newer(path, target)


@pytest.mark.parametrize("times", [(1, 1), FUTURE])
def test_time_of_a_source_says_nothing(made, times):
    path, target, source = made
    os.utime(source, times)
    assert stamp(path, target, files=[source]) and not newer(path, target)


@pytest.mark.parametrize("times", [(1, 1), FUTURE])
def test_other_content_with_any_time(made, times):
    path, target, source = made
    source.write_text("two")
    os.utime(source, times)
    os.utime(target, FUTURE)
    assert not stamp(path, target, files=[source])
    assert newer(path, target)
    finish(path, target)
    assert stamp(path, target, files=[source]) and not newer(path, target)


def test_target_of_another_time_is_made_once(made):
    path, target, source = made
    os.utime(target, FUTURE)
    assert not stamp(path, target, files=[source]) and newer(path, target)
    finish(path, target)
    assert stamp(path, target, files=[source])


def test_missing_target_and_missing_stamp(made):
    path, target, source = made
    target.unlink()
    assert not stamp(path, target, files=[source])
    finish(path, target)
    path.unlink()
    assert not stamp(path, target, files=[source]) and newer(path, target)


def test_a_target_that_was_not_finished_is_made_again(made):
    path, target, source = made
    source.write_text("two")
    stamp(path, target, files=[source])
    target.write_text("half")
    assert not stamp(path, target, files=[source]) and newer(path, target)


def test_settings_count(made):
    path, target, source = made
    assert not stamp(path, target, settings=["float16"], files=[source])


def test_every_source_of_a_folder(tmp_path):
    folder, target, path = tmp_path / "sources", tmp_path / "target", tmp_path / "stamp"
    folder.mkdir()
    for name in ("a.cc", "b.h"):
        (folder / name).write_text(name)
    stamp(path, target, files=[folder])
    finish(path, target)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("")
    assert stamp(path, target, files=[folder])
    (folder / "c.h").write_text("new")
    assert not stamp(path, target, files=[folder])


def test_large_files_are_not_read_again(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    stamp(tmp_path / "s" / "stamp", checkpoint=tmp_path)
    monkeypatch.setattr("core.identity.file_hash", lambda path: pytest.fail("read again"))
    assert stamp(tmp_path / "s" / "stamp", checkpoint=tmp_path)


@pytest.mark.parametrize("damage", ["[", "[]", '{"a": 3}', ""])
def test_damaged_memory_is_made_anew(tmp_path, damage):
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "s" / "stamp"
    stamp(path, checkpoint=tmp_path)
    path.with_name("stamp.seen").write_text(damage)
    assert stamp(path, checkpoint=tmp_path)
