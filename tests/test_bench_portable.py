"""Results hold no places of the machine that made them, and their command runs elsewhere."""

import subprocess

import pytest

from bench import provenance
from bench.provenance import MAKE_COMMAND, ROOT, asked_for, portable, repro_command, without_paths

CLEAN = {"sha": "abc", "dirty": False}


@pytest.mark.parametrize("argv, shown", [
    (["--checkpoint", f"{ROOT}/build/checkpoints/tiny"], ["--checkpoint", "build/checkpoints/tiny"]),
    (["--checkpoint", "build/checkpoints/tiny"], ["--checkpoint", "build/checkpoints/tiny"]),
    (["--checkpoint", "/data/Qwen-VL", "--dtype", "float16"], ["--checkpoint", "<checkpoint>", "--dtype", "float16"]),
    (["--exported-fused", "~/exported"], ["--exported-fused", "<exported-fused>"]),
    (["--image", "../dog.jpg"], ["--image", "<image>"]),
    (["CKPT=/data/Qwen-VL", "PRESET=tiny"], ["CKPT=<ckpt>", "PRESET=tiny"]),
    (["--out=/tmp/results"], ["--out=<out>"]),
    (["--paddle-env", "LD_LIBRARY_PATH=/opt/a:/opt/b", "FLAGS_x=1"],
     ["--paddle-env", "LD_LIBRARY_PATH=<ld_library_path>", "FLAGS_x=1"]),
    (["--prompt", "/a/b is a path"], ["--prompt", "/a/b is a path"]),
    (["PROMPT=~ what?"], ["PROMPT=~ what?"])])
def test_words_of_a_command(argv, shown):
    assert portable(argv) == shown


@pytest.mark.parametrize("text, shown", [
    ("/dev/shm/x/libqwen.so: cannot open shared object file", "…/libqwen.so: cannot open shared object file"),
    (f"{ROOT}/build/exported is damaged", "build/exported is damaged"),
    ("no file at '/home/somebody/model.bin'", "no file at '…/model.bin'"),
    ("gate failed: 3/4 of the tokens, and/or logits", "gate failed: 3/4 of the tokens, and/or logits")])
def test_reasons(text, shown):
    assert without_paths(text) == shown


def test_command_is_that_of_make_where_make_was_typed(monkeypatch):
    for name, value in (("PRESET", "tiny"), ("CKPT", "/data/a"), ("BASE", ""), ("PROMPT", "what's this?")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(MAKE_COMMAND, "bench PRESET CKPT BASE PROMPT")
    assert asked_for(["python"]) == ["make", "bench", "PRESET=tiny", "CKPT=<ckpt>", "PROMPT=what's this?"]
    assert repro_command(["python"], CLEAN) == (
        "git checkout abc && make bench PRESET=tiny 'CKPT=<ckpt>' 'PROMPT=what'\"'\"'s this?'")


def test_results_of_earlier_runs_are_no_change_of_the_code(tmp_path, monkeypatch):
    def git(*args):
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *args], check=True,
                       capture_output=True)
    for name in ("code.py", "README.md", "results/rows.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("two")
    (tmp_path / "results" / "rows.jsonl").write_text("two")
    (tmp_path / "results" / "new.md").write_text("two")
    assert provenance.git_state()["dirty"] is False
    (tmp_path / "code.py").write_text("two")
    assert provenance.git_state()["dirty"] is True


def test_command_without_make(monkeypatch):
    monkeypatch.delenv(MAKE_COMMAND, raising=False)
    assert repro_command(["python", "-m", "bench", "run"], {"sha": "abc", "dirty": True}) == "python -m bench run"
