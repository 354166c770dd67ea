"""make judges by content: replaced weights are noticed, times alone cause no work, nothing is built from a wrong past."""

import os
import re
import shutil

import pytest
from makes import ROOT, run_make

from export.synthetic import write_checkpoint

FUTURE, PAST = (4_000_000_000, 4_000_000_000), (1_000_000_000, 1_000_000_000)
EXPORT = ["export vision", "export language"]
TREE = ("Makefile", "core", "export", "ops", "scripts")


def steps(*arguments, root=ROOT, preview=True):
    """The modules that make runs (or would run), with their first argument where it tells them apart."""
    done = run_make(*(["-n"] if preview else []), *arguments, "IMPL=native", root=root)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"-m (ops\.build|export\.\w+|export \w+)", done.stdout)
    return [" ".join(step.split()) for step in found]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(checkpoint, build folder) after `make export CKPT=`."""
    folder = tmp_path_factory.mktemp("content")
    write_checkpoint("tiny", folder / "checkpoint")
    (folder / "checkpoint" / "generation_config.json").write_text("{}")
    assert steps("export", f"CKPT={folder / 'checkpoint'}", f"BUILD={folder / 'build'}", preview=False) == [
        "export.convert", *EXPORT]
    return folder / "checkpoint", folder / "build"


@pytest.fixture
def made(first, tmp_path):
    """What `first` gives, as a copy of its own: its build folder is set up again for the copied checkpoint."""
    checkpoint = shutil.copytree(first[0], tmp_path / "checkpoint")
    variables = [f"CKPT={checkpoint}", f"BUILD={tmp_path / 'build'}"]
    assert steps("export", *variables, preview=False) == ["export.convert", *EXPORT]
    return checkpoint, variables


def test_nothing_to_do(first):
    variables = [f"CKPT={first[0]}", f"BUILD={first[1]}"]
    assert run_make("-q", "export", "IMPL=native", *variables).returncode == 0
    assert steps("export", *variables) == steps("export", *variables, preview=False) == []


def test_each_file_of_a_checkpoint(first):
    """Replaced as cp -p does it, and put back: one file after the other."""
    checkpoint, build = first
    for path in sorted(checkpoint.iterdir()):
        content = path.read_bytes()
        for changed, again in ((content + b" ", ["export.convert", *EXPORT]), (content, [])):
            # the first look is a preview, which must leave what was made as it is
            path.write_bytes(changed)
            os.utime(path, PAST)
            found = steps("export", f"CKPT={checkpoint}", f"BUILD={build}")
            assert found == again or changed == content and set(found) <= {"export.convert", *EXPORT}, path.name


def test_replaced_weights_are_exported(made, tmp_path):
    checkpoint, variables = made
    write_checkpoint("tiny", tmp_path / "other", seed=9)
    for path in (tmp_path / "other").iterdir():
        os.utime(path, PAST)
        shutil.copy2(path, checkpoint / path.name)
    assert steps("export", *variables, preview=False) == ["export.convert", *EXPORT]
    assert steps("export", *variables, preview=False) == []


def test_times_alone_cause_no_work(made, tmp_path):
    checkpoint, variables = made
    for times in (FUTURE, PAST):
        for path in checkpoint.iterdir():
            os.utime(path, times)
        assert steps("export", *variables) == []


def test_build_folder_with_times_of_a_wrong_clock(made, tmp_path):
    checkpoint, variables = made
    for path in (tmp_path / "build").rglob("*"):
        os.utime(path, FUTURE)
    with open(checkpoint / "config.json", "a") as f:
        f.write("\n")
    assert steps("export", *variables, preview=False) == ["export.convert", *EXPORT]
    assert steps("export", *variables, preview=False) == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources, with `make export PRESET=tiny` done; returns its folder."""
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, root / name)
    assert steps("export", "PRESET=tiny", root=root, preview=False) == ["export.synthetic", "export.convert", *EXPORT]
    return root


@pytest.mark.parametrize("changed, again", [
    ("export/presets/tiny.json", ["export.synthetic", "export.convert", *EXPORT]),
    ("export/convert.py", ["export.convert", *EXPORT]),
    ("export/readers/safetensors.py", ["export.convert", *EXPORT]),
    ("ops/native.py", EXPORT), ("ops/weights.py", EXPORT), ("ops/paddle/decoder.cc", []), ("export/stock.py", []),
])
def test_content_of_a_source(tree, tmp_path, changed, again):
    shutil.copytree(tree, tmp_path / "tree", symlinks=True)
    path = tmp_path / "tree" / changed
    for times in (FUTURE, PAST):
        os.utime(path, times)
        assert steps("export", "PRESET=tiny", root=tmp_path / "tree") == []
    with open(path, "a") as f:
        f.write("\n")
    os.utime(path, PAST)
    assert steps("export", "PRESET=tiny", root=tmp_path / "tree") == again


def test_operator_source_rebuilds_the_library_and_the_fused_graphs(tree, tmp_path):
    variables = ["PRESET=tiny", f"BUILD={tmp_path}", "IMPL=fused"]
    done = run_make("-n", "export", *variables, root=tree)
    assert re.findall(r"-m (ops\.build|export \w+)", done.stdout) == ["ops.build", *EXPORT]


def test_other_wheel_rebuilds_the_graphs(tree):
    stamp = tree / "build" / "stamps" / "wheels"
    content, times = stamp.read_bytes(), stamp.stat()
    of_graphs = list((tree / "build" / "stamps" / "of").rglob("manifest.json"))
    assert len(of_graphs) == 2
    for path in of_graphs:
        wheel = re.search(r"^\w+  .*stamps/wheels$", path.read_text(), re.MULTILINE).group(0)
        path.write_text(path.read_text().replace(wheel, wheel.replace(wheel[:4], "0000")))
    assert steps("export", "PRESET=tiny", root=tree) == EXPORT
    assert stamp.read_bytes() == content and stamp.stat().st_mtime_ns == times.st_mtime_ns
    assert steps("export", "PRESET=tiny", root=tree, preview=False) == EXPORT


def test_out_is_judged_by_content_as_well(first, tmp_path):
    variables = [f"CKPT={first[0]}", f"BUILD={first[1]}", f"OUT={tmp_path / 'graphs'}"]
    assert steps("export", *variables, preview=False) == EXPORT
    assert steps("export", *variables, preview=False) == []
    assert steps("export", *variables, "DTYPE=float16") == EXPORT


def test_parsing_writes_nothing(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("build"))
    before = sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts)
    for goal in ("help", "-p"):
        assert run_make(goal, "PRESET=tiny", root=root).returncode == 0
    assert sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts) == before
