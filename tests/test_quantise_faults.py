"""`make quantize` into odd places, from odd places, and stopped: a whole folder or none, nothing of others lost."""

import json
import os
import signal
import subprocess
import sys

import pytest
from checkpoint_files import REPOSITORY, one_line_error, run
from gptq_files import gptq_tensors, write_gptq

from export.checkpoint import open_whole
from export.synthetic import write_checkpoint
from tests.ctrl_c import heed_ctrl_c


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint in a folder with spaces, quotes and letters of other languages in its path."""
    return write_checkpoint("tiny", tmp_path_factory.mktemp("odd") / "Müllers \"neue\" 'Größe' $HOME")


def quantised(source, out, weights="int8"):
    return run("-m", "export.quantise", source, out, "--weights", weights)


def test_odd_paths(plain, tmp_path):
    out = tmp_path / "drüben 'hier' \"da\""
    assert quantised(plain, out, "fp8").stdout.splitlines()[-1] == str(out)
    assert open_whole(out).quantised.floating


def test_again_into_the_same_folder(plain, tmp_path):
    for weights in "int8", "fp8":
        assert quantised(plain, tmp_path / "out", weights).returncode == 0
        assert json.loads((tmp_path / "out" / "quantisation.json").read_text())["weights"] == weights
    assert not (tmp_path / "out" / "quantize_config.json").exists()


def test_a_pipe_and_a_file_stay(plain, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    for name in "pipe", "file":
        assert f"OUT={tmp_path / name} is a file: choose another OUT=" in one_line_error(
            quantised(plain, tmp_path / name))
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "file").read_text() == "mine"


def test_a_loop_of_links_is_told(plain, tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for out in (tmp_path / "a", tmp_path / "a" / "x"):
        assert f"OUT={out} leads nowhere" in one_line_error(quantised(plain, out))


def test_checkpoints_of_others_are_not_replaced(plain, tmp_path):
    """A downloaded quantised one has the same files as what is written here, but for the mark that this made it."""
    downloaded = write_gptq(tmp_path / "downloaded", gptq_tensors()[0])
    (downloaded / "quantize_config.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in downloaded.iterdir()}
    assert "holds other files and would be replaced" in one_line_error(quantised(plain, downloaded))
    assert {path.name: path.read_bytes() for path in downloaded.iterdir()} == before


def test_the_source_is_never_written_to(plain):
    for out in plain, plain / "inside", plain.parent:
        assert "choose another OUT=" in one_line_error(quantised(plain, out))


STOPPED = """
import sys
import export.quantise as module
write = module._quantised
def announced(*arguments):
    print("working", flush=True)
    sys.stdin.readline()   # until it is stopped
    yield from write(*arguments)
module._quantised = announced
sys.argv[1:] = sys.argv[1:]
from core.errors import run_cli
run_cli(module.main)
"""


def test_ctrl_c(plain, tmp_path):
    with subprocess.Popen([sys.executable, "-c", STOPPED, plain, tmp_path / "out", "--weights", "int8"], cwd=REPOSITORY,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=heed_ctrl_c) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors, errors[-2000:]
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(plain, tmp_path):
    both = [subprocess.Popen([sys.executable, "-m", "export.quantise", plain, tmp_path / "out", "--weights", weights],
                             cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for weights in ("int8", "fp8")]
    for process in both:
        assert process.wait() == 0, process.stderr.read()[-2000:]
        process.stderr.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    made = json.loads((tmp_path / "out" / "quantisation.json").read_text())["weights"]
    assert open_whole(tmp_path / "out").quantised.floating == (made == "fp8")
