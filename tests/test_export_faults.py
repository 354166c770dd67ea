"""Export and conversion on a full disk, killed half-way, and in the way of other files: whole folders or none."""

import shutil
import signal
import subprocess
import sys

import pytest
from checkpoint_files import GOLDEN, REPOSITORY, copy_golden, golden_tensors, one_line_error, run, write_checkpoint

from ops.framework import has_gpu_wheel, programs

COMMANDS = {
    "export": ["-m", "export", "all", GOLDEN, "OUT", "--impl", "native"],
    "convert": ["-m", "export.convert", GOLDEN, "OUT/converted"],
    "quantise": ["-m", "export.quantise", GOLDEN, "OUT/quantised", "--weights", "int8"],
    "synthetic": ["-m", "export.synthetic", "--preset", "tiny", "OUT/synthetic"],
}


def arguments(command, out):
    return [str(part).replace("OUT", str(out)) for part in COMMANDS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_full_disk(tmp_path, command):
    """A private mount of 3 MB; the smaller graph's 4 MB, and the others' 12, do not fit."""
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o size=3m tmpfs "$1" && out="$1" && shift && "$@"; code=$?; ls -A "$out"; exit $code'
    if not shutil.which("unshare") or subprocess.run([*private, "mount", "-t", "tmpfs", "tmpfs", tmp_path],
                                                     capture_output=True).returncode:
        pytest.skip("needs a user namespace in which a small tmpfs can be mounted")
    done = subprocess.run([*private, "sh", "-c", script, "sh", tmp_path, sys.executable, *arguments(command, tmp_path)],
                          cwd=REPOSITORY, text=True, capture_output=True)
    message = one_line_error(done)
    assert "No space left on device" in message and "OUT=" in message
    assert done.stdout.split() == []


KILLED = """
import os, signal, sys
import {module} as module
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
module.{last_step} = die
sys.argv[1:] = sys.argv[1:]
module.main()
"""
LAST_STEPS = {"export": ("export.__main__", "write_manifest"), "convert": ("export.convert", "file_hash"),
              "quantise": ("export.quantise", "_write_configs"), "synthetic": ("export.synthetic", "write_weights")}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_half_way_and_run_again(tmp_path, command):
    module, last_step = LAST_STEPS[command]
    own = [part for part in arguments(command, tmp_path) if part not in ("-m", module, "export")]
    died = run("-c", KILLED.format(module=module, last_step=last_step), *own)
    assert died.returncode == -signal.SIGKILL
    leftovers = [path.name for path in tmp_path.iterdir()]
    assert leftovers and all(".partial-" in name for name in leftovers)
    done = run(*arguments(command, tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    made = {"export": ["language", "vision"], "convert": ["converted"], "quantise": ["quantised"],
            "synthetic": ["synthetic"]}[command]
    assert sorted(path.name for path in tmp_path.iterdir()) == made


def test_a_fault_in_the_weights_leaves_the_old_export(tmp_path):
    assert run("-m", "export", "vision", GOLDEN, tmp_path / "out").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "vision").iterdir()}
    arrays = golden_tensors()
    arrays["transformer.visual.proj"][0, 0] = 1e6
    broken = write_checkpoint(tmp_path / "broken", arrays)
    done = run("-m", "export", "vision", broken, tmp_path / "out", "--dtype", "float16")
    message = one_line_error(done)
    assert "transformer.visual.proj" in message and "bfloat16" in message
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "vision").iterdir()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vision"]


@pytest.mark.skipif(programs.file_name() != "model.json" or has_gpu_wheel(), reason="all types have what is needed")
def test_a_type_that_the_wheel_has_no_kernels_for(tmp_path):
    message = one_line_error(run("-m", "export", "vision", GOLDEN, tmp_path / "out", "--impl", "native", "--dtype",
                                 "float16"))
    assert "no kernels of its own for the type" in message and not list((tmp_path / "out").iterdir())


def test_a_truncated_checkpoint_in_one_line(tmp_path):
    source = copy_golden(tmp_path / "c")
    raw = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(raw[:-1000])
    assert "truncated" in one_line_error(run("-m", "export", "all", source, tmp_path / "out", "--impl", "native"))
    assert not (tmp_path / "out").exists()


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "thesis.txt").write_text("years of work")
    assert "OUT=" in one_line_error(run("-m", "export", "all", GOLDEN, tmp_path, "--impl", "native"))
    assert (tmp_path / "vision" / "thesis.txt").read_text() == "years of work"
