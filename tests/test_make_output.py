"""make and what it runs when nobody reads its output any more: a quiet end, or the work done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INTERPRETERS = [f"{name}_PYTHON={sys.executable}" for name in ("PADDLE", "TORCH")]


def left(*command, **options):
    """(status, stderr) of a command the reader of whose standard output has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, **options)
    os.close(writing)
    return done.returncode, done.stderr


def test_help_without_a_reader():
    assert left("make", "help", *INTERPRETERS) == (0, "")


@pytest.mark.parametrize("stream", [">&-", "2>&-"])
def test_help_with_a_closed_stream(stream):
    command = " ".join(["make", "help", *INTERPRETERS, stream])
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("command", [["doctor"], ["-s", "history", "OUT=results"], ["-s", "check", "CKPT=tests"]])
def test_targets_keep_their_status_without_a_reader(command, tmp_path):
    if "history" in command:
        command = [*command[:-1], f"OUT={tmp_path}"]
        (tmp_path / "history.jsonl").write_text("")
    status, errors = left("make", *command, *INTERPRETERS)
    assert "Traceback" not in errors and "roken pipe" not in errors
    assert status == (2 if "check" in command else 0)  # that is no checkpoint


def test_a_build_goes_on_without_a_reader(tmp_path):
    (tmp_path / "build.ninja").write_text("rule echo\n  command = echo $out && echo done > $out\nbuild made: echo\n")
    program = f"""import subprocess
from pathlib import Path
from core.errors import run_cli
from ops import build
run_cli(lambda: build.run_ninja({(tmp_path / "build.ninja").read_text()!r}, {{}}, Path({str(tmp_path)!r})))"""
    assert left(sys.executable, "-c", program) == (0, "") and (tmp_path / "made").read_text() == "done\n"
