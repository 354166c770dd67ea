"""The commit that results name is this repository's, or none, with the reason."""

import subprocess

import pytest

from bench import git
from bench.provenance import git_state
from core.errors import UserError


def commit(folder):
    """Make a repository of all files in the folder; returns its commit."""
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True)
    return subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own that stands for this repository's root, without a repository."""
    root = tmp_path / "around" / "project"
    root.mkdir(parents=True)
    monkeypatch.setattr(git, "ROOT", root)
    return root


def test_results_of_earlier_runs_are_no_change_of_the_code(tmp_path, monkeypatch):
    for name in ("code.py", "README.md", "results/rows.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    commit(tmp_path)
    monkeypatch.setattr(git, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("two")
    (tmp_path / "results" / "rows.jsonl").write_text("two")
    (tmp_path / "results" / "new.md").write_text("two")
    assert git_state()["dirty"] is False
    (tmp_path / "code.py").write_text("two")
    assert git_state()["dirty"] is True


@pytest.mark.parametrize("ignored", [True, False])
def test_commit_of_a_repository_around_is_not_ours(here, ignored):
    """A tarball unpacked, or vendored, inside another project."""
    (here / "code.py").write_text("one")
    if ignored:
        (here.parent / ".gitignore").write_text("project/\n")
    commit(here.parent)
    found = git_state()
    assert (found["sha"], found["dirty"]) == (None, None) and "not a git repository of its own" in found["reason"]


@pytest.mark.parametrize("variables", [
    ["GIT_DIR"], ["GIT_DIR", "GIT_WORK_TREE"], ["GIT_INDEX_FILE"], ["GIT_OBJECT_DIRECTORY"], ["GIT_COMMON_DIR"],
    ["GIT_LITERAL_PATHSPECS"], ["GIT_NAMESPACE"]])
def test_variables_of_a_hook_change_nothing(here, monkeypatch, variables):
    (here / "code.py").write_text("one")
    sha = commit(here)
    commit(here.parent)
    values = {"GIT_DIR": f"{here.parent}/.git", "GIT_WORK_TREE": here.parent, "GIT_INDEX_FILE": "/no/index",
              "GIT_OBJECT_DIRECTORY": "/no/objects", "GIT_COMMON_DIR": f"{here.parent}/.git",
              "GIT_LITERAL_PATHSPECS": "1", "GIT_NAMESPACE": "other"}
    for name in variables:
        monkeypatch.setenv(name, str(values[name]))
    assert git_state() == {"sha": sha, "dirty": False}


def test_worktree_and_shallow_clone_know_their_commit(here, tmp_path, monkeypatch):
    sha = commit(here)
    subprocess.run(["git", "-C", here, "worktree", "add", "-q", "--detach", tmp_path / "tree"], check=True)
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{here}", tmp_path / "shallow"], check=True)
    for root in ("tree", "shallow"):
        monkeypatch.setattr(git, "ROOT", tmp_path / root)
        assert git_state() == {"sha": sha, "dirty": False}


def test_repository_of_another_user(here, monkeypatch):
    commit(here)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setattr(git, "SETTINGS", (*git.SETTINGS, "GIT_TEST_"))  # git's own way to try it without a second user
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="another user: git config --global --add safe.directory"):
        git.git("rev-parse", "HEAD")
    assert "safe.directory" in git_state()["reason"]
    for name, value in {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": "*"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert git_state()["dirty"] is False


def test_no_repository_and_no_git(here, monkeypatch):
    assert git_state()["sha"] is None and "not a git repository" in git_state()["reason"]
    monkeypatch.setenv("PATH", "/no")
    assert git_state() == {"sha": None, "dirty": None, "reason": "cannot run git (No such file or directory): apt "
                                                                 "install git"}
