"""scripts/gpu_bench.sh takes a work folder only if it holds what the run would make."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from core.errors import UserError
from export.synthetic import write_checkpoint
from scripts import gpu_work
from scripts.gpu_work import missing, write_record

ROOT = Path(__file__).parents[1]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder with a checkpoint of preset tiny and the manifests of its graphs, recorded."""
    (tmp_path / "library.so").write_text("operators")
    monkeypatch.setenv("QWEN_VL_OPS", str(tmp_path / "library.so"))
    work = tmp_path / "work"
    write_checkpoint("tiny", work / "checkpoint")
    for graph in ("vision", "language"):
        (work / "exported" / graph).mkdir(parents=True)
        (work / "exported" / graph / "manifest.json").write_text("{}")
        (work / "exported" / graph / "model.pdiparams").write_text("weights")
    write_record(work, "tiny", "float32")
    assert missing(work, "tiny", "float32") == ""
    return work


@pytest.mark.parametrize("preset, dtype, word", [("small", "float32", "preset"), ("tiny", "float16", "dtype")])
def test_another_preset_or_type(work, preset, dtype, word):
    assert f"another value of {word}" in missing(work, preset, dtype)


def test_another_operator_library(work):
    Path(os.environ["QWEN_VL_OPS"]).write_text("others")
    assert "operators" in missing(work, "tiny", "float32")


def test_other_sources(work, tmp_path, monkeypatch):
    for folder in gpu_work.SOURCES:
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder)
    monkeypatch.setattr(gpu_work, "ROOT", tmp_path / "tree")
    assert missing(work, "tiny", "float32") == ""
    for source in ("export/synthetic.py", "export/presets/tiny.json"):
        text = (tmp_path / "tree" / source).read_text()
        (tmp_path / "tree" / source).write_text(text + "\n")
        assert "sources" in missing(work, "tiny", "float32")
        (tmp_path / "tree" / source).write_text(text)


@pytest.mark.parametrize("file, gone", [
    ("checkpoint/config.json", False),
    *((name, gone) for name in ("checkpoint/model.safetensors", "checkpoint/qwen.tiktoken",
                                "exported/vision/manifest.json", "exported/language/model.pdiparams")
      for gone in (False, True))])
def test_other_files(work, file, gone):
    """Also where they have the size and the time of the old ones."""
    path = work / file
    status, raw = path.stat(), bytearray(path.read_bytes())
    path.unlink()
    if not gone:
        raw[-2] ^= 1
        path.write_bytes(raw if file != "checkpoint/config.json" else bytes(raw[:-2]) + b" }")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "changed" in missing(work, "tiny", "float32")


@pytest.mark.parametrize("record", [None, b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_no_record(work, record):
    path = work / gpu_work.RECORD
    path.unlink()
    if record is not None:
        path.write_bytes(record)
    assert missing(work, "tiny", "float32")


@pytest.mark.parametrize("config", ["{}", "[", "3", None])
def test_a_checkpoint_of_somebody_elses_is_not_replaced(work, config):
    (work / "checkpoint" / "config.json").unlink()
    if config:
        (work / "checkpoint" / "config.json").write_text(config)
    with pytest.raises(UserError, match="choose another WORK="):
        missing(work, "tiny", "float32")


PYTHON = """#!/bin/bash
shift
echo "$*" >> "$CALLS"
case "$*" in
*--record*) ;;
scripts.gpu_work*) echo "a library prints"; {answer};;
esac
"""


@pytest.mark.parametrize("answer, made, status", [("exit 0", False, 0), ("exit 3", True, 0), ("exit 1", False, 1)])
def test_the_script_makes_what_is_missing(tmp_path, answer, made, status):
    python = tmp_path / "python"
    python.write_text(PYTHON.replace("{answer}", answer))
    python.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "gpu_bench.sh", tmp_path / "out"], capture_output=True, text=True,
        env={**os.environ, "CALLS": str(tmp_path / "calls"), "PADDLE_PYTHON": str(python), "TORCH_PYTHON": str(python),
             "WORK": str(tmp_path / "work"), "GPU_TESTS": "no", "PRESET": "tiny", "DTYPE": "float16"})
    assert done.returncode == status, done.stderr
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    steps = [" ".join(call[:1]) for call in calls]
    assert ("export.synthetic" in steps) == ("export" in steps) == made
    assert ("bench" in steps) == (status == 0)
    if made:
        recorded = next(call for call in calls if "--record" in call)
        assert steps.index("export") < calls.index(recorded) < steps.index("bench")
        assert recorded[1:] == [str(tmp_path / "work"), "--preset", "tiny", "--dtype", "float16", "--record"]


def test_the_record_is_small_and_readable(work):
    record = json.loads((work / gpu_work.RECORD).read_text())
    assert set(record) == {"preset", "dtype", "sources", "operators", "paddle", "files"}
    assert "export/synthetic.py" in record["sources"] and "export/presets/7b.json" in record["sources"]
    assert set(record["files"]) == {
        *(f"checkpoint/{name}" for name in ("config.json", "model.safetensors", "qwen.tiktoken")),
        *(f"exported/{name}" for name in ("vision/manifest.json", "vision/model.pdiparams", "language/manifest.json",
                                          "language/model.pdiparams"))}
