"""`make lint`: every kind of file has its checker, all of them run, and one that is not there is named."""

import shutil
import subprocess
import sys

import pytest

from core.errors import UserError
from scripts import lint


@pytest.fixture
def tree(tmp_path):
    """A repository with a file of every kind."""
    texts = {"scripts/a.sh": "#!/usr/bin/env bash\n", ".ci/run": "#!/bin/sh\n", "tests/data": "bash\n",
             "tests/no.py": "#!/usr/bin/python\n"}
    empty = ("ops/a/b.cu", "ops/c.cuh", "ops/d.cc", "ops/e.h", "ops/f.py", ".clang-format")
    for name, text in (texts | dict.fromkeys(empty, "")).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(files, tree):
    return [file.relative_to(tree).as_posix() for file in files]


def test_files_of_each_kind(tree):
    assert names(lint.shell_files(tree), tree) == [".ci/run", "scripts/a.sh"]
    assert names(lint.cpp_files(tree), tree) == ["ops/a/b.cu", "ops/c.cuh", "ops/d.cc", "ops/e.h"]


def test_every_shell_file_of_this_repository():
    tracked = subprocess.run(["git", "grep", "-lE", "^#!.*(bash|/sh)$"], cwd=lint.ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("needs a git checkout")
    first = [name for name in tracked.stdout.split() if (lint.ROOT / name).read_bytes().startswith(b"#!")]
    assert first == names(lint.shell_files(), lint.ROOT)


def test_a_checker_for_each_kind(tree, monkeypatch):
    monkeypatch.setattr(lint, "tool", lambda name: name)
    commands = lint.commands(tree)
    assert [command[2 if command[0] == sys.executable else 0] for command in commands] == [
        "ruff", "shellcheck", "clang-format"]
    (tree / ".clang-format").unlink()
    assert len(lint.commands(tree)) == 2


def test_a_checker_that_is_not_there(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UserError, match="no shellcheck in this environment: make setup"):
        lint.commands()


@pytest.mark.parametrize("first, second, status", [("true", "true", 0), ("false", "true", 1), ("true", "false", 1)])
def test_all_run_and_one_fault_counts(monkeypatch, tmp_path, first, second, status):
    monkeypatch.setattr(lint, "commands", lambda: [[first], [second], ["touch", str(tmp_path / "ran")]])
    assert lint.main() == status and (tmp_path / "ran").exists()
