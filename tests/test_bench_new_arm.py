"""A new arm is a file and a line: it is on the command line, in the table, in the pictures and in the history."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.history import FILE
from bench.schema import read_rows
from export.synthetic import write_checkpoint
from infer.image import default_image

ROOT = Path(__file__).parents[1]
CODE = ("bench", "core", "export", "infer", "ops", "tests/bench_fake_arm.py", "tests/bench_fake_driver.py")
ARM = '''"""The arm toy: no model, on an interpreter of its own kind."""

from tests.bench_fake_arm import FakeArm


class ToyArm(FakeArm):
    def versions(self):
        return {"toy": "1.0"}
'''
LINE = '    ArmSpec("toy", "toys", "bench.arms.toy_arm:ToyArm", "checkpoint", baseline=True),\n'
SHOWN = """
import json, sys
from pathlib import Path
from bench.curves import curve_figure
from bench.history import history_figure, read
from bench.plots import stage_figure
from bench.schema import read_rows
from bench.sweep import frame
folder = Path(sys.argv[1])
rows = read_rows(folder / "rows.jsonl")
series, _ = read(folder.parents[1])
figures = stage_figure(rows), curve_figure(frame(rows)), history_figure(
    series, folder.parent.name, folder.name)
texts = lambda figure: [text.get_text() for legend in figure.legends for text in legend.get_texts()] + [
    label.get_text() for label in figure.axes[0].get_yticklabels()]
print(json.dumps([texts(figure) for figure in figures]))
"""


@pytest.fixture
def tree(tmp_path):
    """The code with the new arm's file and line, and nothing else changed."""
    for name in CODE:
        path = ROOT / name
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if path.is_file():
            shutil.copy(path, tmp_path / name)
        else:
            shutil.copytree(path, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "kernels", "paddle"))
    (tmp_path / "bench" / "arms" / "toy_arm.py").write_text(ARM)
    registry = tmp_path / "bench" / "arms" / "__init__.py"
    before, after = registry.read_text().split(")}\n", 1)
    registry.write_text(f"{before}{LINE})}}\n{after}")
    return tmp_path


def test_an_arm_is_a_file_and_a_line(tree):
    def python(*words):
        done = subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    checkpoint = write_checkpoint("tiny", tree / "tiny")
    text = python("-m", "bench", "run", "--checkpoint", checkpoint, "--image", default_image(), "--arms", "toy",
                  "--device", "cpu", "--toys-python", sys.executable, "--launches", "1", "--rounds", "2",
                  "--warmup", "0", "--new-tokens", "4", "--batches", "2", "--case-rounds", "1", "--out", "results")
    assert "toy" in text and "speed-up vs toy" in text
    stored, = (tree / "results").rglob("rows.jsonl")
    rows = read_rows(stored)
    assert {(row.arm, row.status) for row in rows if row.stage == "end_to_end"} == {("toy", "ok")}
    assert rows[0].provenance["versions"]["toy"] == "1.0"
    assert {json.loads(line)["arm"] for line in (tree / "results" / FILE).read_text().splitlines()} == {"toy"}
    assert "toy" in (stored.parent / "table.md").read_text() and "toy" in (stored.parent / "cases.md").read_text()
    assert all((stored.parent / f"{name}.png").is_file() for name in ("stages", "cases"))
    stages, curves, timeline = json.loads(python("-c", SHOWN, stored.parent))
    assert "toy\n32 bits, n = 2" in stages and "toy, 32 bits" in curves and "toy" in timeline
