"""The arm paddle-other: the fused graphs on the Paddle of a second interpreter, beside those on the first one's."""

import subprocess
import sys

from makes import ROOT, run_make
from test_bench_report import arm_rows, replace_provenance

from bench.__main__ import options_of, parse
from bench.report import notes
from bench.schema import read_rows
from ops import library
from scripts.variables import folder_name


def test_it_is_in_a_run_that_names_its_interpreter():
    def arms(*words):
        return options_of(parse(["run", "--checkpoint", "x", "--device", "cpu", *words])).arms

    assert arms("--exported-fused", "y") == arms() and "paddle-other" not in arms()
    assert set(arms("--paddle-other-python", "python")) == {*arms(), "paddle-other"}
    assert arms("--paddle-other-python", "python", "--arms", "torch-sdpa") == ("torch-sdpa",)


def test_make_exports_with_the_other_interpreter(exported_tiny, tmp_path):
    other, checkpoint = tmp_path / "python", exported_tiny.parent / "checkpoint"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    called = ["-n", "bench", f"CKPT={checkpoint}", "OUT=results", f"BUILD={tmp_path / 'build'}"]
    done = run_make(*called, "ARMS=paddle-other", f"PADDLE_OTHER_PYTHON={other}")
    assert done.returncode == 0, done.stderr
    folder, lines = tmp_path / "build" / "other", done.stdout.splitlines()
    exported = folder / "exported" / folder_name(str(checkpoint)) / "fused-float32"
    for graph in ("vision", "language"):
        assert any(line.startswith(f"{other} -m export {graph} ") and f" {exported} " in line for line in lines)
    text = done.stdout[done.stdout.index("-m bench run"):]
    assert f"--exported-other {exported} " in text and "--out results" in text
    assert f"--paddle-other-env QWEN_VL_OPS={folder}/ops/cpu/libqwen_vl_ops.so" in text
    assert "paddle-other" not in run_make(*called, "ARMS=paddle-fused", f"PADDLE_OTHER_PYTHON={other}").stdout


def test_both_are_measured_in_the_same_rounds(exported_tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", "--checkpoint", exported_tiny.parent / "checkpoint", "--device", "cpu",
         "--arms", "paddle-fused,paddle-other", "--exported-fused", exported_tiny, "--exported-other", exported_tiny,
         "--paddle-other-python", sys.executable, "--paddle-other-env", f"QWEN_VL_OPS={library.path()}",
         "--launches", "1", "--rounds", "2", "--warmup", "0", "--new-tokens", "4", "--out", tmp_path],
        cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    stored, = tmp_path.rglob("rows.jsonl")
    passes = {row.arm: len(row.samples) for row in read_rows(stored) if row.stage == "end_to_end"}
    assert passes == {"paddle-fused": 2, "paddle-other": 2}


def test_a_line_says_which_paddle_each_ran_on():
    def rows(other):
        return [replace_provenance(row, versions={"paddle": version} if version else {})
                for arm, version in (("torch-sdpa", None), ("paddle-fused", "2.6.2"), ("paddle-other", other))
                for row in arm_rows(arm, [1.0, 2.0])]

    assert "paddle-fused on Paddle 2.6.2, paddle-other on Paddle 3.3.1." in notes(rows("3.3.1"))
    assert not any("on Paddle" in line for line in notes(rows("2.6.2")))
