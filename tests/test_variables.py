"""What make does with the values it is given: what cannot be used is refused in one line that says why and whence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.versions import MAKE_VARIABLES
from ops import formats
from scripts import variables
from scripts.variables import ROOT, decide, fault, folder_name

VALUES = {"PRESET": "small", "CKPT": "", "DTYPE": "float32", "DEVICE": "cpu", "ARMS": "", "PYTHON": "",
          "PADDLE_PYTHON": "python3", "TORCH_PYTHON": "python3"}
MAKEFILE = (Path(ROOT) / "Makefile").read_text(encoding="utf-8")
LEGAL = ["R&D", "lr=1e-5", "a$b", "a b", "it's", 'say "hi"', "$(touch x)", "`touch x`", "a;b", "100%", "#1", "a~b",
         "(x)", "a:b", "a\\b", "*", "[a]", "!x", "{a,b}", "模型", "a\u3000b"]


def checkpoint(folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.mark.parametrize("name", LEGAL)
def test_checkpoint_may_have_any_name(tmp_path, name):
    path = checkpoint(tmp_path / name)
    assert fault({"CKPT": path, "IMAGE": os.path.join(path, "config.json"), "VERDICT": path}, ["regress"]) is None
    assert re.fullmatch(r"[A-Za-z0-9._+-]+-[0-9a-f]{8}", folder_name(path))


def test_folder_name_tells_paths_apart_and_follows_links(tmp_path):
    first, second = checkpoint(tmp_path / "a&b"), checkpoint(tmp_path / "a_b")
    assert folder_name(first) != folder_name(second)
    (tmp_path / "link").symlink_to(first)
    assert folder_name(str(tmp_path / "link")) == folder_name(first)
    assert folder_name(os.fsdecode(b"/a\xff")) != folder_name(os.fsdecode(b"/a\xfe"))


@pytest.mark.parametrize("path", ["/models/-model", "/", "/models/" + "m" * 250])
def test_folder_name_is_no_option_and_leaves_room(path):
    assert re.fullmatch(r"[^-].{0,99}-[0-9a-f]{8}", folder_name(path))


@pytest.mark.parametrize("values, words", [
    ({"CKPT": "~/A"}, "CKPT=~/A has a ~ that the shell left"),
    ({"CKPT": "-x"}, r"CKPT=-x would be taken for an option: put \./ before it"),
    ({"CKPT": "a\nb"}, "CKPT= holds a line break: leave it out"), ({"BASE": "a\nb"}, "BASE= holds a line break"),
    ({"CKPT": "a\rb"}, r"CKPT=a\\rb holds a line break or another"),
    ({"CKPT": os.fsdecode(b"caf\xe9")}, r"CKPT=caf\\udce9 is no UTF-8"),
    ({"CKPT": "/no/such"}, "CKPT=/no/such has no config.json"),
    ({"IMAGE": "registry/app:1"}, "IMAGE=registry/app:1 is no file"),
    ({"IMAGE": "~/a.jpg"}, "the shell left"),
    ({"IMAGE": "a\nb.jpg"}, "line break"),
    ({"OUT": "a b"}, "OUT=a b may hold letters"),
    ({"OUT": "a'b"}, "OUT=a'b may hold letters"),
    ({"BUILD": "$(touch x)"}, r"BUILD=\$\(touch x\) may hold letters"),
    ({"BUILD": "-rf"}, "BUILD=-rf may hold"), ({"BUILD": "~/b"}, "BUILD=~/b may hold"),
    ({"BUILD": ""}, "BUILD= is empty"),
    ({"BUILD": "a=b"}, "BUILD=a=b may hold"), ({"BUILD": "a:b"}, "BUILD=a:b may hold"), ({"BUILD": "a%b"}, "may hold"),
    ({"PADDLE_PYTHON": "/a;b/python"}, "PADDLE_PYTHON=/a;b/python may hold"),
    ({"PADDLE_OTHER_PYTHON": "/no/python"}, "PADDLE_OTHER_PYTHON=/no/python cannot be run"),
    ({"TORCH_PYTHON": "/no/python"}, "TORCH_PYTHON=/no/python cannot be run"),
    ({"PRESET": "foo"}, "PRESET=foo is unknown, use one of: .*small"),
])
def test_refused_in_one_line(values, words):
    message = fault(values, ["infer"])
    assert re.search(words, message) and "\n" not in message
    name, = values
    assert f"{name}=" in message and "environment" not in message
    assert "(from the environment)" in fault(values, ["infer"], [name])


def test_values_of_no_use_to_the_goal_are_left_alone():
    values = {"IMAGE": "registry/app:1", "CASES": "~", "CKPT": "~/A"}
    assert fault(values, ["report"]) is None
    for name in ("PRESET", "WEIGHTS"):
        assert fault({name: "foo"}, ["help"]) is None
        assert f"{name}=a:b is unknown" in fault({name: "a:b"}, ["help"])  # a part of the names of targets


def test_addresses_are_no_files():
    assert fault({"IMAGE": "https://example.org/a.jpg"}, ["infer"]) is None


def test_image_need_not_be_utf8(tmp_path):
    path = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")
    Path(path).write_bytes(b"")
    assert fault({"IMAGE": path}, ["bench"]) is None


def test_inherited_out_is_named():
    message = fault({"OUT": "/ci"}, ["test"], ["OUT"])
    assert message.startswith("OUT=/ci (from the environment) says where one target writes to: leave it out")


def test_paddle_is_chosen_for_venv_alone():
    assert fault({"PADDLE": "3", "PADDLE_PYTHON": ".venv/bin/python"}, ["setup"]) is None
    message = fault({"PADDLE": "3", "PADDLE_PYTHON": sys.executable, "TORCH_PYTHON": sys.executable}, ["setup"])
    assert message == "PADDLE=3 chooses what .venv gets, PADDLE_PYTHON= has its own: leave one of them out"
    assert fault({"PADDLE": "2"}, ["setup"]) == "PADDLE=2 is unknown, use one of: 2.6 3"


@pytest.mark.parametrize("root, allowed", [("/home/u/qwen-vl_2.0", True), ("/home/ü", True), ("/tmp/R&D", False),
                                           ("/tmp/a b", False), ("/tmp/a'b", False), ("/tmp/a$b", False),
                                           ("/a:b", False)])
def test_folder_of_the_repository(root, allowed):
    assert (fault({}, ["bench"], root=root) is None) is allowed
    assert fault({}, ["help"], root=root) is None


def test_every_variable_is_a_text_and_stays_with_this_make():
    defined = re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE)
    listed = re.search(r"^VARIABLES := ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE).group(1).replace("\\", "").split()
    assert set(defined) <= set(listed)
    # a version's own make is told the interpreters, and for which cards to build
    assert set(listed) - MAKE_VARIABLES == {"PYTHON", "PADDLE_PYTHON", "TORCH_PYTHON", "CUDA_ARCHS"}
    assert all(f"{name}=" in MAKEFILE.partition("define HELP")[2] for name in [*listed, *variables.FOR_THE_BUILD])


def test_only_the_standard_library_is_needed():
    values = [f"{name}={value}" for name, value in VALUES.items()]
    done = subprocess.run([sys.executable, "-I", "-S", "scripts/variables.py", "--goals", "help", "--values", *values],
                          cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "ok small cpu none ready native,fused"


def test_values_as_make_writes_them(monkeypatch, capsysbinary):
    monkeypatch.setattr(sys, "argv", ["variables", "--goals", "infer", "--values", r"STOP=a\nb\\n", r"BASE=a\nb"])
    variables.main()
    assert capsysbinary.readouterr().out == b"error: BASE= holds a line break: leave it out"
    assert variables._unescaped(r"a\nb\\n") == "a\nb\\n"


@pytest.mark.parametrize("typed, near", [("PRESETS", "PRESET"), ("preset", "PRESET"), ("DTYP", "DTYPE"),
                                         ("PADDLE_PYHTON", "PADDLE_PYTHON"), ("PROMT", "PROMPT"), ("MARCHS", "MARCH")])
def test_a_misspelt_variable_names_the_nearest(typed, near):
    values = dict.fromkeys(["PRESET", "DTYPE", "DEVICE", "PADDLE_PYTHON", "BATCH"], "x")
    for goals in (["bench"], ["help", "bench"]):
        message = fault(values, goals, typed=["PRESET", typed])
        assert f"{typed}= is no variable of this Makefile, the nearest is {near}=:" in message and "\n" not in message
    assert fault({}, ["help"], typed=[typed]) is None


@pytest.mark.parametrize("name, value, drawn", [
    ("TEMPERATURE", "0.7", True), ("TEMPERATURE", "0.0", False), ("TEMPERATURE", "x", True),
    ("REPETITION_PENALTY", "1.0", False), ("REPETITION_PENALTY", "10", True), ("MIN_NEW_TOKENS", "3", True),
    ("MIN_NEW_TOKENS", "0", False), ("TOP_K", "5", False), ("SEED", "7", False),
    ("TEMPERATURE", "0", False)])
def test_native_graphs_draw_no_tokens(name, value, drawn):
    for goal in ("infer", "chat"):
        message = fault({"IMPL": "native", name: value}, [goal])
        assert (message is not None) is drawn and (not drawn or f"leave out {name}, or use IMPL=fused" in message)
        assert fault({"IMPL": "fused", name: value}, [goal]) is None
    assert fault({"IMPL": "native", name: value}, ["bench"]) is None


def test_variables_of_the_build_are_no_mistake():
    assert fault({"PRESET": "tiny"}, ["ops"], typed=["MARCH", "CXX", "PRESET", "PROMPT"]) is None


@pytest.mark.parametrize("given, expected", [
    ({"ARMS": "torch-sdpa"}, "-"), ({"ARMS": ""}, "native,fused"), ({"ARMS": "xpaddle-fused,paddle-native"}, "native"),
    ({"ARMS": "paddle-stock,paddle-fused"}, "fused,stock"), ({"PADDLE_OTHER_PYTHON": "python"}, "native,fused,other"),
    ({"PADDLE_OTHER_PYTHON": "python", "ARMS": "paddle-other"}, "other"),
    ({"PADDLE_OTHER_PYTHON": "python", "ARMS": "paddle-fused"}, "fused"), ({"ARMS": "paddle-fused-int4"}, "fused"),
    ({"ARMS": "torch-sdpa", "WEIGHTS": "int4"}, "fused"), ({"ARMS": "torch-sdpa", "WEIGHTS": "auto"}, "-")])
def test_graphs_of_the_arms(given, expected):
    assert decide(VALUES | given, ["bench"]).graphs == expected


def test_the_other_paddle_has_to_be_named():
    asked = {"ARMS": "torch-sdpa,paddle-other"}
    assert "set PADDLE_OTHER_PYTHON= to its interpreter" in fault(asked, ["bench"])
    assert fault(asked, ["infer"]) is fault({**asked, "PADDLE_OTHER_PYTHON": sys.executable}, ["bench"]) is None


def test_device_and_packages(monkeypatch):
    here = VALUES | {"DEVICE": "auto", "PADDLE_PYTHON": sys.executable, "TORCH_PYTHON": sys.executable}
    exists = os.path.exists
    monkeypatch.setattr(variables.os.path, "exists", lambda path: path == "/dev/nvidia0" or exists(path))
    for wheel, dtype, device in ((True, "float16", "gpu"), (True, "float32", "cpu"), (False, "float16", "cpu")):
        monkeypatch.setattr(variables, "_has_gpu_wheel", lambda wheel=wheel: wheel)
        assert decide(here | {"DTYPE": dtype}, ["bench"])[1:4] == (device, "python", "ready")
        assert decide(here | {"DTYPE": dtype}, ["clean"])[1:4] == ("cpu", "none", "ready")
    assert decide(here | {"PADDLE_PYTHON": "/no/python", "DEVICE": "gpu"}, ["bench"])[1:3] == ("gpu", "none")


def test_the_environment_is_asked_for_only_where_it_is_used(monkeypatch):
    asked = []
    monkeypatch.setattr(variables.subprocess, "run", lambda command, env, stdout: asked.append(
        (env["DEVICE"], env["PYTHON"], env["PADDLE"]))
        or subprocess.CompletedProcess(command, 0, b".venv/.ready is missing or old\n"))
    venv = VALUES | {"PADDLE_PYTHON": ".venv/bin/python", "DEVICE": "gpu", "PYTHON": "python3.12", "PADDLE": "3"}
    assert decide(venv, ["bench"]).environment == "stale" and asked == [("gpu", "python3.12", "3")]
    assert decide(venv, ["doctor"]).environment == decide(VALUES, ["bench"]).environment == "ready" and len(asked) == 1


@pytest.mark.parametrize("goal", ["infer", "chat", "bench", "regress", "reproduce", "replay"])
def test_what_this_machine_cannot_compute_is_refused_before_anything_is_made(monkeypatch, goal):
    monkeypatch.setattr(variables, "has_gpu", lambda: False)
    assert variables.fault({"DEVICE": "gpu"}, [goal]) == "DEVICE=gpu: there is no NVIDIA GPU here: use DEVICE=cpu"
    for device in ("auto", "cpu"):
        assert "DTYPE=float16 is for GPUs" in variables.fault({"DEVICE": device, "DTYPE": "float16"}, [goal])
    assert variables.fault({"DEVICE": "gpu", "DTYPE": "float16"}, ["setup"]) is None
    assert variables.fault({"DTYPE": "float16"}, ["export"]) is None
    monkeypatch.setattr(variables, "has_gpu", lambda: True)
    assert variables._no_device("auto", "float16") is variables._no_device("gpu", "float16") is None


@pytest.mark.parametrize("weights, impl, allowed", [
    ("auto", "native", True), ("int4", "fused", True), ("int4+int8", "fused", True), ("float32", "fused", True),
    ("int4", "native", "leave out IMPL=native"), ("int5", "fused", "one of float16"), ("int4+", "fused", "one of"),
    ("int4+int8+int8", "fused", "is unknown"), ("INT4", "fused", "is unknown")])
def test_weights_are_formats_of_the_registry(weights, impl, allowed):
    message = fault({"WEIGHTS": weights, "IMPL": impl}, ["infer"])
    assert message is None if allowed is True else allowed in message and message.startswith(f"WEIGHTS={weights} ")
    assert variables.formats() == list(formats.NAMES)


@pytest.mark.parametrize("goal", ["bench", "sweep", "compare", "regress", "reproduce", "infer", "chat", "replay"])
def test_what_messages_tell_a_user_to_give_is_taken(goal, tmp_path):
    """WEIGHTS= with the name of DTYPE multiplies codes out, in every command that loads them."""
    given = {"BASE": "HEAD", "CKPT": str(tmp_path), "CASES": str(tmp_path)}
    given |= {"OUT": str(tmp_path)} if goal == "replay" else {}
    (tmp_path / "config.json").write_text("{}")
    assert fault({**given, "WEIGHTS": "float32"}, [goal]) is fault({**given, "WEIGHTS": "int4"}, [goal]) is None
    assert fault({**given, "WEIGHTS": "float16"}, [goal]) == (
        "WEIGHTS=float16 is another type than DTYPE=float32: use float32 instead of float16, or leave WEIGHTS= out")


def test_weights_that_a_goal_cannot_take():
    assert "WEIGHTS=int4 changes nothing for baseline" in fault({"WEIGHTS": "int4"}, ["baseline"])
    assert fault({"WEIGHTS": "auto"}, ["baseline"]) is fault({"WEIGHTS": "int4", "BASE": "HEAD"}, ["report"]) is None
    for goal in "bench", "sweep", "compare", "regress", "reproduce", "quantize":
        assert f"names two formats, {goal} takes one: leave out +int8" in fault(
            {"WEIGHTS": "int4+int8", "BASE": "HEAD"}, [goal])
    for goal in "compare", "regress":
        assert "is for the fused graphs: leave out IMPL=native" in fault(
            {"WEIGHTS": "int8", "BASE": "HEAD", "IMPL": "native"}, [goal])
