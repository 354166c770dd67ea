"""Values given to make reach the commands as they are: nothing in them is run, expanded or taken for an option."""

import json
import os
import shutil
from pathlib import Path

import pytest
from makes import ROOT, recorder, run_make

GOLDEN = ROOT / "tests" / "data" / "tiny" / "checkpoint"
TEXT = "it's \"$HOME\" $(touch pwned) `touch pwned` $(shell touch pwned) ; touch pwned & # 100% \\ *\nsecond line"
NAME = "it's \"$HOME\" $(touch pwned) `touch pwned` $(shell touch pwned) ; touch pwned & # 100% = \\ *"


@pytest.fixture
def called(tmp_path):
    """Call make with the values, typed or inherited; returns (words, variables) of the module that it calls."""
    def call(goal, module, values, inherited=False, **more):
        python, record = recorder(tmp_path, module)
        typed = {"BUILD": tmp_path / "build", "PADDLE_PYTHON": python, **more, **({} if inherited else values)}
        done = run_make("-s", goal, *(f"{name}={value}" for name, value in typed.items()),
                        environment=values if inherited else None)
        assert done.returncode == 0, done.stderr
        assert not (ROOT / "pwned").exists() and not (tmp_path / "pwned").exists()
        return json.loads(record.read_text())
    return call


def folder_of(tmp_path, name=NAME):
    """A folder of that name with a checkpoint, an image and a case in it, as far as make looks at them."""
    folder = tmp_path / name
    folder.mkdir()
    for file in ("config.json", "a.jpg", "case1.npz"):
        (folder / file).write_text("{}")
    return folder


@pytest.mark.parametrize("inherited", [False, True])
def test_checkpoint(called, tmp_path, inherited):
    folder = folder_of(tmp_path)
    words, _ = called("check", "export.check", {"CKPT": str(folder)}, inherited)
    assert words[2] == str(folder)


@pytest.mark.parametrize("inherited", [False, True])
def test_base_of_a_comparison(called, inherited):
    """It comes from names of branches."""
    for name in (NAME, "-rf", "--help"):
        words, _ = called("compare", "bench", {"BASE": name}, inherited, CKPT=GOLDEN)
        assert f"--base={name}" in words


def test_paths_and_texts_of_a_benchmark(called, tmp_path):
    folder = folder_of(tmp_path)
    image = os.fsdecode(bytes(folder) + b"/caf\xe9.jpg")
    Path(image).write_bytes(b"")
    values = {"CKPT": str(folder), "IMAGE": image, "PROMPT": TEXT, "ARMS": "torch-sdpa", "BUDGET": "1; touch pwned"}
    words, variables = called("bench", "bench", values)
    assert words[words.index("--checkpoint") + 1] == str(folder)
    assert {f"--image={image}", f"--prompt={TEXT}", "--budget=1; touch pwned"} <= set(words)
    assert variables["QWEN_VL_MAKE"].split() == ["bench", "CKPT", "ARMS", "BUDGET", "IMAGE", "PROMPT"]
    assert all(variables[name] == value for name, value in values.items())


def test_question_and_cases(called, tmp_path):
    folder = folder_of(tmp_path)
    words, _ = called("infer", "infer", {"PROMPT": "-" + TEXT, "STOP": "--", "SEED": "$(touch pwned)",
                                         "IMAGE": str(folder / "a.jpg"), "FONT": NAME}, CKPT=GOLDEN, IMPL="native")
    assert {f"--prompt=-{TEXT}", "--stop=--", "--seed=$(touch pwned)", f"--font={NAME}"} <= set(words)
    words, _ = called("replay", "infer.replay", {"CASES": str(folder)}, CKPT=GOLDEN, IMPL="native",
                      OUT=tmp_path / "out")
    assert f"--cases={folder}" in words


@pytest.mark.parametrize("name", ["BUILD", "OUT", "PADDLE_PYTHON", "TORCH_PYTHON", "DEVICE", "PRESET", "DTYPE", "IMPL"])
@pytest.mark.parametrize("inherited", [False, True])
def test_what_make_reads_itself_is_refused(tmp_path, name, inherited):
    typed = [] if inherited else [f"{name}={NAME}"]
    done = run_make("-s", "export", *typed, environment={name: NAME} if inherited else None)
    assert done.returncode != 0 and done.stdout == "" and done.stderr.count("\n") == 1
    assert f"{name}={NAME}" + " (from the environment)" * inherited in done.stderr
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("name", ["OUT", "BUILD", "CKPT", "BASE", "PADDLE_PYTHON"])
def test_a_line_break_is_refused(tmp_path, name, inherited):
    """The shell that make asks would see the value without it."""
    value = {name: f"{tmp_path}/a\n{tmp_path}/b"}
    done = run_make("-n", "infer", *([] if inherited else [f"{name}={value[name]}"]),
                    environment=value if inherited else None)
    assert done.returncode == 2 and done.stdout == ""
    source = " (from the environment)" * inherited
    assert done.stderr.endswith(f"{name}= holds a line break{source}: leave it out.  Stop.\n")


def test_inherited_values_are_named():
    for values, words in (({"OUT": "/ci"}, "OUT=/ci (from the environment) says where"),
                          ({"IMAGE": "registry/app:1"}, "IMAGE=registry/app:1 (from the environment) is no file"),
                          ({"CKPT": "~/A"}, "CKPT=~/A (from the environment) has a ~")):
        done = run_make("infer", "bench", environment=values)
        assert words in done.stderr and done.stdout == "" and done.stderr.count("\n") == 1


def test_inherited_value_is_named_by_a_command(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_make("-s", "convert", f"CKPT={GOLDEN}", f"BUILD={tmp_path / 'build'}",
                    environment={"OUT": str(tmp_path)})
    first = done.stderr.splitlines()[0]
    assert first.startswith(f"error: OUT={tmp_path} holds other files")
    assert first.endswith("(OUT= came from the environment)")


@pytest.mark.parametrize("goal", ["help", "clean", "infer"])
def test_weights_are_no_text_of_the_makefile(tmp_path, goal):
    done = run_make(goal, f"BUILD={tmp_path / 'build'}", "WEIGHTS=$(shell touch pwned)")
    assert done.returncode != 0 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "WEIGHTS=$(shell touch pwned) is unknown" in done.stderr and not (ROOT / "pwned").exists()


@pytest.mark.parametrize("name", ["R&D", "a b", "a'b", "$(touch pwned)", "a:b"])
def test_repository_in_a_folder_of_that_name(tmp_path, name):
    root = tmp_path / name
    for part in ("Makefile", "scripts", "export"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        root.mkdir(exist_ok=True)
        copy(ROOT / part, root / part)
    assert run_make("help", root=root).returncode == 0
    done = run_make("ops", root=root)
    assert done.returncode != 0 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "this repository lies in" in done.stderr and not (root / "pwned").exists()


def test_safe_path_of_python(tmp_path):
    done = run_make("convert", f"CKPT={GOLDEN}", f"BUILD={tmp_path / 'build'}",
                    environment={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr


def test_clean_leaves_what_make_did_not_make(tmp_path):
    build = tmp_path / "build"
    for name in ("exported", "quantised", "stamps", "mine"):
        (build / name).mkdir(parents=True)
    # a copy, as `clean` also removes the caches of this repository
    root = tmp_path / "root"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copytree(ROOT / "export", root / "export")
    shutil.copy2(ROOT / "Makefile", root)
    assert run_make("clean", f"BUILD={build}", root=root).returncode == 0
    assert [path.name for path in build.iterdir()] == ["mine"]
    (build / "mine").rmdir()
    assert run_make("clean", f"BUILD={build}", root=root).returncode == 0 and not build.exists()
