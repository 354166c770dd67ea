"""make compare: references, worktrees, old versions, and a comparison of two fake versions."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import bench.git
from bench import compare as module
from bench.arms import ARMS
from bench.compare import compare
from bench.schema import read_rows
from bench.verdict import paired
from bench.versions import PROTOCOL, build, check_out, commit_of, format_names, linked
from core.errors import UserError
from export.synthetic import write_checkpoint
from tests.bench_options import run_options


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two commits, the first without a worker; returns a function that commits files."""
    root = tmp_path / "repository"
    root.mkdir()

    def git(*args):
        subprocess.run(["git", "-C", root, "-c", "user.name=t", "-c", "user.email=t@t", *args], check=True,
                       capture_output=True)

    def commit(files):
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        git("add", ".")
        git("commit", "-qm", "change")

    git("init", "-q")
    commit({"readme": "old"})
    commit({"bench/worker.py": "# speaks\n", "Makefile": "export:\n\t@echo error: no weights >&2; false\n"})
    monkeypatch.setattr("bench.git.ROOT", root)
    return commit


def test_version_is_checked_out_once(repository, tmp_path):
    version = check_out("HEAD", tmp_path / "build")
    assert (version.tree / "bench" / "worker.py").is_file() and version.tree.name == version.sha[:12]
    assert check_out(version.sha, tmp_path / "build").tree == version.tree


def test_unknown_reference(repository):
    with pytest.raises(UserError, match="BASE=nonsense is no commit"):
        commit_of("nonsense")
    with pytest.raises(UserError, match="is no commit"):
        commit_of("--all")


def test_version_without_the_worker_protocol_is_too_old(repository, tmp_path):
    with pytest.raises(UserError, match="does not speak worker protocol"):
        check_out("HEAD~1", tmp_path / "build")
    repository({"bench/protocol.json": f"{PROTOCOL + 1}\n"})
    with pytest.raises(UserError, match="does not speak worker protocol"):
        check_out("HEAD", tmp_path / "build")


def test_formats_of_a_version(repository, tmp_path):
    assert format_names(check_out("HEAD", tmp_path / "build")) == ()
    repository({"ops/formats/registry.h": '#pragma once\n#include "ops/formats/int8/format.h"\n'})
    assert format_names(check_out("HEAD", tmp_path / "build")) == ("int8",)


@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_a_version_without_the_format_is_refused_before_it_is_built(repository, tmp_path, monkeypatch, weights):
    monkeypatch.setattr(module, "check_asked", lambda *args: None)
    monkeypatch.setattr(module, "build", lambda *args: pytest.fail("something was built"))
    options = run_options(checkpoint=write_checkpoint("tiny", tmp_path / "c"), out=str(tmp_path), weights=weights)
    with pytest.raises(UserError, match=f"has no WEIGHTS={weights}: choose a later BASE=, or leave WEIGHTS= out"):
        compare(options, ("HEAD", "HEAD"), "fused", tmp_path / "build", [], Console())


def test_arms_of_two_versions_keep_the_format():
    version = SimpleNamespace(tree=Path("/v"))
    for weights, expected in (("int8", "int8"), ("float32", "float32"), ("auto", None)):
        specs = module.version_arms([version, version], "fused", "cpu", weights)
        for name in "base", "head":
            assert specs[name].options.get("weights") == expected and specs[name].name == specs[name].source == name
            assert specs[name].rounds_to == ("int8" if weights == "int8" else "")


def test_reference_that_a_shallow_clone_lacks(repository, tmp_path, monkeypatch):
    origin = bench.git.ROOT
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{origin}", tmp_path / "shallow"], check=True)
    monkeypatch.setattr("bench.git.ROOT", tmp_path / "shallow")
    with pytest.raises(UserError, match="run `git fetch --unshallow`"):
        commit_of("HEAD~1")


def test_worktree_of_another_clone_is_refused(repository, tmp_path, monkeypatch):
    """As in a build folder that was copied with another clone."""
    version = check_out("HEAD", tmp_path / "build")
    subprocess.run(["git", "clone", "-q", bench.git.ROOT, tmp_path / "clone"], check=True)
    monkeypatch.setattr("bench.git.ROOT", tmp_path / "clone")
    with pytest.raises(UserError, match="unchanged: delete it"):
        check_out(version.sha, tmp_path / "build")


def test_changed_worktree_is_refused(repository, tmp_path):
    version = check_out("HEAD", tmp_path / "build")
    (version.tree / "readme").write_text("changed")
    with pytest.raises(UserError, match="unchanged: delete it"):
        check_out("HEAD", tmp_path / "build")


def test_build_that_fails_is_one_line(repository, tmp_path):
    version = check_out("HEAD", tmp_path / "build")
    with pytest.raises(UserError, match="cannot be built: error: no weights"):
        build(version, tmp_path, "float32", "cpu", "fused", {"paddle": sys.executable}, tmp_path / "log")


def test_checkpoint_is_handed_on_by_its_content(tmp_path):
    """Older versions' Makefiles tell checkpoints by path and time, and run what stands in a path."""
    folder = tmp_path / "$(touch x) 'a'"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    weights = folder / "model.safetensors"
    weights.write_bytes(b"first")
    first = linked(folder, tmp_path / "links")
    assert first.parent == tmp_path / "links" and re.fullmatch("[0-9a-f]{32}", first.name)
    assert (first / weights.name).read_bytes() == b"first" and linked(folder, tmp_path / "links") == first
    times = weights.stat()
    weights.write_bytes(b"other")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert linked(folder, tmp_path / "links") != first


def test_checkpoints_that_were_moved_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    first = linked(tmp_path / "a", tmp_path / "links")
    (tmp_path / "a").rename(tmp_path / "b")
    assert linked(tmp_path / "b", tmp_path / "links") == first and (first / "config.json").read_text() == "{}"


@pytest.fixture
def compared(tmp_path, repository, monkeypatch):
    """Compare two versions whose arms are fakes from this tree; returns (status, stored rows, output)."""
    checkpoint = write_checkpoint("tiny", tmp_path / "tiny")
    repository({"next": "version"})
    monkeypatch.setattr(module, "build", lambda *args: tmp_path)
    fake = replace(ARMS["paddle-fused"], target="tests.bench_fake_arm:FakeArm")
    monkeypatch.setattr(module, "version_arms", lambda versions, impl, device, weights: {
        "base": replace(fake, source="base"), "head": replace(fake, source="head", options=head)})
    head = {}

    def run(**options):
        head.update(options)
        console = Console(record=True, width=200, quiet=False)
        measuring = run_options(checkpoint=checkpoint, new_tokens=3, out=str(tmp_path / "results"), launches=4,
                                rounds=5)
        status = compare(measuring, ("HEAD~1", "HEAD"), "fused", tmp_path / "build",
                         ["python", "-m", "bench", "compare"], console)
        stored, = (tmp_path / "results").rglob("*.jsonl")
        return status, read_rows(stored), console.export_text()
    return run


def test_comparison_is_printed_and_stored(compared):
    _, rows, text = compared()
    assert {row.arm for row in rows} == {"base", "head"}
    assert {tuple(row.launches) for row in rows if row.stage == "end_to_end"} == {(5, 5, 5, 5)}
    marked = rows[0].provenance["compared"]
    assert marked["base"]["ref"] == "HEAD~1" and marked["base"]["sha"] != marked["head"]["sha"]
    assert "| vision" in text and "4 launches with 20 rounds" in text


def test_other_answers_are_no_comparison(compared):
    status, rows, text = compared(offset=1e-2)
    assert status == 2 and "gate failed" in text
    assert {verdict.verdict for verdict in paired("base", "head", rows)} == {"invalid"}
