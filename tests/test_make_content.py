"""make judges by content: replaced weights are noticed, and times alone cause no work."""

import os
import re
import shutil
import sys

import pytest
from makes import ROOT, run_make

from export.synthetic import write_checkpoint

FUTURE, PAST = (4_000_000_000, 4_000_000_000), (1_000_000_000, 1_000_000_000)
CONVERT, CHAIN = ["export.convert"], ["export.convert", "export vision"]
TREE = ("Makefile", "core", "export", "ops", "scripts")


def steps(*arguments, root=ROOT, goal="convert", preview=False):
    """The modules that make runs (or would run), with their first argument where it tells them apart."""
    done = run_make(*(["-n"] if preview else []), goal, *arguments, "IMPL=native", root=root)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"-m (ops\.build|export\.\w+|export \w+)", done.stdout)
    return [" ".join(step.split()) for step in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint that has a file of every kind."""
    folder = tmp_path_factory.mktemp("content")
    write_checkpoint("tiny", folder / "checkpoint")
    for name in ("generation_config.json", "tokenizer_config.json"):
        (folder / "checkpoint" / name).write_text("{}")
    return folder


@pytest.fixture
def made(folder):
    """(checkpoint, variables for make), with everything up to date."""
    variables = [f"CKPT={folder / 'checkpoint'}", f"BUILD={folder / 'build'}"]
    steps(*variables)  # `make convert`, which is quick and judged as all steps are
    return folder / "checkpoint", variables


def test_nothing_to_do(made):
    _, variables = made
    assert run_make("-q", "convert", *variables).returncode == 0
    assert steps(*variables, preview=True) == steps(*variables) == []


def test_every_file_of_a_checkpoint(made):
    """Written in place with its old time, as cp -p and rsync --inplace do it; weights with their old size, too."""
    checkpoint, variables = made
    for path in sorted(checkpoint.iterdir()):
        times, content = path.stat(), path.read_bytes()
        weights = path.suffix == ".safetensors"
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if weights else content + b"\n")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert steps(*variables) == CONVERT, path.name


def test_weights_replaced_by_older_ones(made, tmp_path):
    checkpoint, variables = made
    write_checkpoint("tiny", tmp_path / "other", seed=9)
    for path in (tmp_path / "other").iterdir():
        os.utime(path, PAST)
        os.replace(path, checkpoint / path.name)
    assert steps(*variables, goal="export-vision", preview=True) == CHAIN
    assert steps(*variables) == CONVERT
    assert steps(*variables) == []


def test_times_alone_cause_no_work(made):
    checkpoint, variables = made
    for times in (FUTURE, PAST):
        for path in checkpoint.iterdir():
            os.utime(path, times)
        assert steps(*variables, preview=True) == []


def test_build_folder_of_a_wrong_clock(made, folder):
    checkpoint, variables = made
    for path in (folder / "build").rglob("*"):
        os.utime(path, FUTURE)
    assert steps(*variables) == []
    for path in (folder / "build").rglob("*"):
        os.utime(path, FUTURE)
    with open(checkpoint / "config.json", "a") as f:
        f.write("\n")
    assert steps(*variables) == CONVERT
    assert steps(*variables) == []


def test_out_is_judged_by_content_as_well(made, folder):
    _, variables = made
    out = f"OUT={folder / 'graphs'}"
    assert steps(*variables, out, goal="export-vision") == ["export vision"]
    assert steps(*variables, out, goal="export-vision") == []
    assert steps(*variables, out, "DTYPE=float16", goal="export-vision", preview=True) == ["export vision"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources in which the vision graph of PRESET=tiny was exported."""
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, root / name)
    assert steps("PRESET=tiny", root=root, goal="export-vision") == ["export.synthetic", *CHAIN]
    return root


@pytest.mark.parametrize("changed, again", [
    ("export/presets/tiny.json", ["export.synthetic", *CHAIN]), ("export/readers/safetensors.py", CHAIN),
    ("ops/formats/base.py", CHAIN), ("ops/native.py", CHAIN[1:]), ("ops/weights.py", CHAIN[1:]),
    ("ops/framework/programs.py", CHAIN[1:]), ("ops/paddle/decoder.cc", []), ("export/stock.py", []),
])
def test_content_of_a_source(tree, tmp_path, changed, again):
    root = shutil.copytree(tree, tmp_path / "tree")
    for path in root.rglob("*.py"):
        os.utime(path, FUTURE)
    with open(root / changed, "a") as f:
        f.write("\n")
    os.utime(root / changed, PAST)
    assert steps("PRESET=tiny", root=root, goal="export-vision", preview=True) == again


def test_operator_source_makes_the_library_and_the_fused_graph_again(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    library, graph = (root / "build" / path for path in
                      ("ops/cpu/libqwen_vl_ops.so", "exported/tiny/fused-float32/vision/manifest.json"))
    variables = ["-n", "export-vision", "PRESET=tiny", "IMPL=fused"]

    def modules():
        return re.findall(r"-m (ops\.build|export \w+)", run_make(*variables, root=root).stdout)
    assert modules() == ["ops.build", "export vision"]
    for path in (library, graph):  # as if they had been made
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        stamp = root / "build" / "stamps" / "of" / path.relative_to(root)
        os.utime(path, ns=(stamp.stat().st_atime_ns, stamp.stat().st_mtime_ns))
    assert modules() == []
    with open(root / "ops" / "paddle" / "decoder.cc", "a") as f:
        f.write("\n")
    assert modules() == ["ops.build", "export vision"]


def test_other_wheel_makes_the_graph_again(tree):
    stamp = tree / "build/stamps/of/build/exported/tiny/native-float32/vision/manifest.json"
    content = stamp.read_text()
    wheels = re.search(r"^(\w+)  build/stamps/wheels$", content, re.MULTILINE)[1]
    stamp.write_text(content.replace(wheels, "0" * len(wheels)))
    assert steps("PRESET=tiny", root=tree, goal="export-vision") == ["export vision"]
    assert steps("PRESET=tiny", root=tree, goal="export-vision") == []


def test_parsing_writes_nothing(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("build", "__pycache__"))
    before = sorted(root.rglob("*"))
    assert run_make("help", "PRESET=tiny", root=root, environment={"PYTHONDONTWRITEBYTECODE": "1"}).returncode == 0
    assert run_make("-p", "history", "-n", root=root, environment={"PYTHONDONTWRITEBYTECODE": "1"}).returncode == 0
    assert sorted(root.rglob("*")) == before


def test_a_preview_while_the_environment_is_half_made_runs_nothing_of_it(tmp_path):
    for name in TREE:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, tmp_path / name)
    half_made = tmp_path / ".venv" / "bin" / "python"
    half_made.parent.mkdir(parents=True)
    half_made.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')   # no packages yet
    half_made.chmod(0o755)
    done = run_make("-n", "convert", root=tmp_path, environment=dict.fromkeys(("PADDLE_PYTHON", "TORCH_PYTHON"),
                                                                              ".venv/bin/python"))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
