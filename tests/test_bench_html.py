"""What is published from stored rows: the page stands alone, README's figures are those of results/."""

import io
import subprocess
import zipfile
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench.html import BEGIN, END, PAGE, README, RESULTS, cases_of, publish, readme_block, with_block
from bench.reproduce import FILE, PASSES
from bench.results import write_results
from bench.schema import OPTIONAL, STAGES, Case, Row
from core.errors import UserError

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)
CONDITIONS = {"argv": ["python", "-m", "bench", "run"], "platform": "Linux", "cpu": "A <CPU>", "cores": 2, "threads": 2,
              "memory_mib": 1000, "load_average": 0.0, "versions": {}, "time": "2026-01-01T00:00:00+00:00",
              "checkpoint": {"hash": "x", "synthetic": True},
              "rounds": {"asked": 10, "done": 10, "warmup": 0, "interrupted": False}}


class References(HTMLParser):
    """Everything that a page loads, and the tags that are open at its end."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def results(tmp_path):
    """A results folder with one case of three arms, and its reproduction."""
    made = []
    for arm, ms in (("torch-eager", [400.0, 440.0, 420.0]), ("paddle-fused", [210.0, 200.0, 220.0]),
                    ("paddle-native", [])):
        status, reason = ("ok", "") if ms else ("failed", "gate failed: logits differ by <1>")
        made += [Row(arm, stage, status, reason, ms, CASE, CONDITIONS) for stage in STAGES if stage not in OPTIONAL]
    folder = write_results(tmp_path / "results", made, {"arms": {"paddle-fused": {"passed": True}}})
    pair = [row for row in made if row.arm != "paddle-native" and row.stage == "end_to_end"]
    pair += [Row(row.arm, "published", "ok", "", row.samples * (PASSES // 3), CASE, CONDITIONS) for row in pair]
    (folder / FILE).write_text("".join(row.to_json() + "\n" for row in pair))
    return tmp_path / "results"


def test_page_stands_alone(results):
    list(publish(results))
    text = (results / PAGE).read_text()
    references = References(text)
    assert references.open == [] and len(references.found) == 2  # stages, speed-up; one run has no history yet
    assert all(value.startswith("data:image/png;base64,") for value in references.found)
    assert "A &lt;CPU&gt;" in text and "<CPU>" not in text and "differ by &lt;1&gt;" in text
    assert "1012.11" in text and "2.000x" in text


def test_readme_is_generated_and_stays_the_same(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold figures\n{END}\n\nMore.\n")
    assert list(publish(results, readme))[-1] == readme
    first = readme.read_text()
    assert "old figures" not in first and first.startswith("# Title\n") and first.endswith("\n\nMore.\n")
    for text in ("2.00x [", "420.0", "paddle-native: failed: gate failed", "](results/a-cpu-2-cores/", "425.36"):
        assert text in first
    list(publish(results, readme))
    assert readme.read_text() == first


def test_readme_leaves_out_a_run_of_few_rounds(results, tmp_path):
    few = {**CONDITIONS, "rounds": {**CONDITIONS["rounds"], "done": 1}}
    write_results(results, [Row("torch-eager", stage, "ok", "", [1.0], replace(CASE, new_tokens=1), few)
                            for stage in STAGES if stage not in OPTIONAL], {})
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    line, written = list(publish(results, readme))[-2:]
    assert "n1 has 1 round, 10 are needed" in line and written == readme
    assert "8 new tokens; 10 rounds" in readme.read_text() and "1 round" not in readme.read_text()


def test_readme_stays_as_it_is_without_a_run_of_enough_rounds(results, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.report.ROUNDS_AT_LEAST", 11)
    readme = tmp_path / "README.md"
    assert "not in README.md" in list(publish(results, readme))[-1] and not readme.exists()


@pytest.mark.parametrize("text", ["none", BEGIN, END + BEGIN, f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_markers_must_be_there_once(text):
    with pytest.raises(UserError, match="README.md needs one line"):
        with_block(text, "figures")


def test_other_folders_leave_readme_alone(results):
    before = README.read_text()
    assert README not in list(publish(results))
    assert README.read_text() == before


def test_committed_readme_shows_the_committed_results(tmp_path):
    """Of the last commit: results measured since then may lie in the working tree."""
    root = README.parent
    archive = subprocess.run(["git", "archive", "--format=zip", "HEAD", README.name, RESULTS.name], cwd=root,
                             capture_output=True)
    if archive.returncode != 0:
        pytest.skip("needs a git checkout with a commit")
    zipfile.ZipFile(io.BytesIO(archive.stdout)).extractall(tmp_path)
    text = (tmp_path / README.name).read_text(encoding="utf-8")
    assert with_block(text, readme_block(cases_of(tmp_path / RESULTS.name), tmp_path)) == text


def test_a_damaged_accuracy_is_named(results):
    path, *_ = results.rglob("accuracy.json")
    path.write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(UserError, match=f"accuracy.json is damaged .*git checkout HEAD -- {path}"):
        list(publish(results))
