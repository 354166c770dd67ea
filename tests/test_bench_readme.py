"""README's figures: they are those of results/, each of its own machine and case, and stay what they are."""

import io
import re
import subprocess
import zipfile
from dataclasses import replace

import pytest

from bench.publish import PAGE, README, RESULTS, SWEEP, cases_of, publish
from bench.readme import BLOCKS, PICTURE, filled
from bench.results import write_results
from bench.schema import write_rows
from core.errors import UserError
from tests.bench_published import CASE, CONDITIONS, case_rows, write_published, write_reproduction

EMPTY = "\n".join(f"<!-- {block}:begin -->\nold figures\n<!-- {block}:end -->" for block in BLOCKS)
ON_GPU = {**CONDITIONS, "gpu": {"name": "A GPU"}}
PUBLISHED = replace(CASE, preset="7b", dtype="float16", device="gpu")


@pytest.fixture
def results(tmp_path):
    return write_published(tmp_path / "results")


@pytest.fixture
def blocks(results, tmp_path):
    """Publishes into a README and returns {block: its text}."""
    def read():
        readme = tmp_path / "README.md"
        readme.write_text(EMPTY)
        assert list(publish(results, readme))[-1] == readme
        return {block: re.search(f"<!-- {block}:begin -->(.*)<!-- {block}:end -->", readme.read_text(), re.DOTALL)[1]
                for block in BLOCKS}
    return read


def test_readme_is_generated_and_stays_the_same(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{EMPTY}\n\nMore.\n")
    assert list(publish(results, readme))[-1] == readme
    first = readme.read_text()
    assert "old figures" not in first and first.startswith("# Title\n") and first.endswith("\n\nMore.\n")
    list(publish(results, readme))
    assert readme.read_text() == first


def test_headline_has_a_picture_a_table_machine_day_and_n(blocks, results):
    text = blocks()["headline"]
    for part in ("](results/headline.png)", "2.00x", "420.0", "A &lt;CPU>, 2 cores", "measured 2026-01-01", " n |\n",
                 "](results/a-cpu-2-cores/"):
        assert part in text
    assert "paddle-native" not in text and (results / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_the_newest_run_on_a_gpu_comes_first_and_the_cpu_has_a_table_of_its_own(blocks, results):
    for day, faster in (("2026-01-03", 3), ("2026-01-02", 2)):
        case = replace(CASE, device="gpu", new_tokens=faster)
        write_results(results, case_rows(case, {**ON_GPU, "time": f"{day}T00:00:00+00:00"}, faster), {})
    made = blocks()
    assert "measured 2026-01-03" in made["headline"] and "A GPU" in made["headline"] and "CPU>" not in made["headline"]
    assert "A &lt;CPU>" in made["cpu"] and "A GPU" not in made["cpu"]


def test_a_toy_is_not_what_the_readme_shows(blocks, results):
    write_results(results, case_rows(replace(CASE, preset="tiny"), {**CONDITIONS, "time": "2026-06-01T00:00:00+00:00"}),
                  {})
    assert "preset tiny" not in str(blocks()) and "measured 2026-01-01" in blocks()["headline"]


def test_a_run_without_figures_does_not_replace_one_with_some(results):
    stored, = results.rglob("rows.jsonl")
    before = stored.read_bytes()
    failed = [replace(row, status="skipped", reason="no weights", samples=[]) for row in case_rows()]
    with pytest.raises(UserError, match="nothing was measured, .* stays as it was: torch-eager: no weights"):
        write_results(results, failed, {})
    assert stored.read_bytes() == before


def test_a_sweep_is_drawn_and_linked(blocks, results):
    assert "sweep.png" not in blocks()["headline"]
    folder, = (path.parent for path in results.rglob("rows.jsonl"))
    write_rows(folder / SWEEP, [*case_rows(), *case_rows(replace(CASE, batch=2))])
    assert f"]({folder.relative_to(results.parent)}/sweep.png)" in blocks()["headline"]
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "Engines over batch and length" in (results / PAGE).read_text()


def test_the_published_figures_stand_beside_nothing_of_another_model(blocks, results):
    text = blocks()["published"]
    assert "425.36" in text and "669.8" in text and "2.000x" not in text and "make reproduce" in text
    assert "](results/a-cpu-2-cores/" in text
    rows = case_rows(PUBLISHED, ON_GPU)
    write_reproduction(write_results(results, rows, {}), rows)
    text = blocks()["published"]
    quoted, ours = text.split("The same model and protocol on another card: A GPU")
    assert "425.36" in quoted and "2.000x" not in quoted and "2.000x" in ours and "425.36" not in ours


def test_readme_leaves_out_a_run_of_few_rounds(results, tmp_path):
    few = {**CONDITIONS, "rounds": {**CONDITIONS["rounds"], "done": 1}, "time": "2026-03-01T00:00:00+00:00"}
    write_results(results, case_rows(replace(CASE, new_tokens=1), few), {})
    readme = tmp_path / "README.md"
    readme.write_text(EMPTY)
    *_, line, _, written = publish(results, readme)
    assert "n1 has 1 round, 10 are needed" in line and written == readme
    assert "8 new tokens" in readme.read_text() and "1 new token;" not in readme.read_text()


def test_readme_stays_as_it_is_without_a_run_of_enough_rounds(results, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.report.ROUNDS_AT_LEAST", 11)
    readme = tmp_path / "README.md"
    assert "not in README.md" in list(publish(results, readme))[-1] and not readme.exists()


def test_a_run_in_which_everything_failed_is_on_the_page_and_not_in_the_readme(results, tmp_path):
    failed = [replace(row, status="failed", reason="gate failed: x") for row in case_rows(
        replace(CASE, new_tokens=4), {**CONDITIONS, "time": "2026-03-01T00:00:00+00:00"})]
    folder = write_results(results, failed, {})
    readme = tmp_path / "README.md"
    readme.write_text(EMPTY)
    list(publish(results, readme))
    assert folder.name not in readme.read_text() and folder.name in (results / PAGE).read_text()


BEGIN, END = "<!-- headline:begin -->", "<!-- headline:end -->"


@pytest.mark.parametrize("text", ["none", BEGIN, END + BEGIN, f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_markers_must_be_there_once(results, tmp_path, text):
    with pytest.raises(UserError, match="README.md needs one line <!-- headline:begin -->"):
        filled(text, cases_of(results), tmp_path, results)


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
    assert filled(text, cases_of(tmp_path / RESULTS.name), tmp_path, tmp_path / RESULTS.name) == text
