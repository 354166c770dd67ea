"""Names, prompts and reasons with anything in them: every report is whole, and nothing in it acts."""

import csv
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from bench.history import append, history_markdown, lines_of, read
from bench.plots import stage_figure
from bench.process import WorkerFailed
from bench.provenance import MAKE_COMMAND, preset_name, repro_command
from bench.publish import publish
from bench.readme import BLOCKS
from bench.report import again_markdown, markdown, markdown_table
from bench.reproduce import FILE
from bench.results import write_results
from bench.schema import CASE_STAGES, OPTIONAL, STAGES, Case, Row, read_rows

NASTY = "caf\udce9|<img src=x onerror=y>\n# \x1b[2J`b` $a$_1 ç中\u202e.jpg"
SHOWN = r"caf\xe9|<img src=x onerror=y>\n# \x1b[2J`b` $a$_1 ç中\u202e.jpg"
CASE = Case("a$b|<b>$", "float32", "cpu", 1, 290, 8)
CONDITIONS = {"argv": ["python", "-m", "bench", "run", "--prompt", NASTY], "platform": "Linux", "cpu": "A CPU",
              "cores": 2, "threads": 2, "memory_mib": 1000, "load_average": 0.0, "versions": {},
              "time": "2026-01-01T00:00:00+00:00", "checkpoint": {"hash": "x", "synthetic": True},
              "image": {"name": NASTY, "xxh3_128": "0"},
              "rounds": {"asked": 2, "done": 2, "warmup": 0, "interrupted": False}}


def arm_rows(arm, ms, case=CASE, **changes):
    return [Row(**{"arm": arm, "stage": stage, "status": "ok", "reason": "", "samples": [ms, ms + 1], "case": case,
                   "provenance": CONDITIONS, **changes}) for stage in STAGES if stage not in OPTIONAL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder that holds every kind of file."""
    out = tmp_path_factory.mktemp("results")
    other = [row for row in arm_rows("torch-eager", 5.0, replace(CASE, batch=2)) if row.stage in CASE_STAGES]
    rows = [*arm_rows("torch-eager", 5.0), *arm_rows("paddle-fused", 3.0, status="failed", reason=NASTY), *other]
    made = write_results(out, rows, {"reference": NASTY})
    published = [replace(row, stage="published", samples=[1.0] * 10) for row in rows if row.stage == "end_to_end"]
    (made / FILE).write_text("".join(row.to_json() + "\n" for row in [*rows, *published]))
    (out / "README.md").write_text("\n".join(f"<!-- {block}:begin --><!-- {block}:end -->" for block in BLOCKS))
    list(publish(out, out / "README.md"))
    return out


def texts(folder):
    return {path.name: path.read_bytes().decode("utf-8") for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".png"}


def test_every_file_is_printable_utf_8(folder):
    made = texts(folder)
    assert {"table.md", "cases.md", "history.md", "reproduce.md", "report.html", "README.md", "rows.csv", "cases.csv",
            "table.csv", "bencher.json", "history.jsonl", "rows.jsonl", FILE} <= made.keys()
    for name, text in made.items():
        assert all(c.isprintable() or c == "\n" for c in text), name
    for name in ("table.md", "reproduce.md", "report.html", "rows.jsonl"):
        assert r"caf\xe9" in made[name].replace("\\\\", "\\"), name


def test_names_are_no_html(folder):
    made = texts(folder)
    for name in ("table.md", "cases.md", "history.md", "reproduce.md", "README.md", "report.html"):
        outside_of_code = re.sub(r"(`+).+?(?<!`)\1(?!`)", "", made[name])
        assert "<img src=x" not in outside_of_code and "<b>" not in outside_of_code, name


def test_tables_keep_their_columns(folder):
    for name, text in texts(folder).items():
        if name.endswith(".md"):
            for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
                assert len({line.count("|") for line in table.splitlines()}) == 1, (name, table)
    assert markdown_table(pd.DataFrame({"a|": ["b|<"]}, index=["`"])).splitlines()[-1].count("|") == 3


def test_json_for_other_tools_has_no_halves_of_characters(folder):
    for path in folder.rglob("*.json*"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.dumps(json.loads(line), ensure_ascii=False).encode()  # fails on a surrogate


def test_conditions_for_other_tools_are_lines(folder):
    path, = folder.rglob("github-action-benchmark.json")
    for entry in json.loads(path.read_text()):
        lines = entry["extra"].split("\n")
        assert lines[0].startswith("median of ") and len(lines) >= 3 and all(map(str.isprintable, lines))


def test_a_csv_row_is_one_line(folder):
    path, = folder.rglob("rows.csv")
    with open(path, encoding="utf-8", newline="") as f:
        lines = list(csv.reader(f))
    assert len({len(line) for line in lines}) == 1 and len(lines) == len(path.read_text().splitlines())
    assert SHOWN in {line[lines[0].index("reason")] for line in lines}


def test_rows_that_were_stored_with_raw_names_are_shown(tmp_path):
    raw = {**json.loads(arm_rows("torch-eager", 5.0)[0].to_json()), "provenance": CONDITIONS}
    (tmp_path / "rows.jsonl").write_text(json.dumps(raw) + "\n")
    row, = read_rows(tmp_path / "rows.jsonl")
    assert row.provenance["image"]["name"] == SHOWN


def test_rows_that_are_fresh_show_the_same():
    assert arm_rows("a", 1.0)[0].provenance["argv"][-1] == SHOWN
    assert WorkerFailed(NASTY).args == (SHOWN,)


@pytest.mark.parametrize("command", ["a `b`", "``a` b", "a"])
def test_a_command_is_one_piece_of_code(command):
    row = replace(arm_rows("torch-eager", 1.0)[0], provenance={**CONDITIONS, "repro": command})
    line = again_markdown([row])
    code = re.fullmatch(r"Measure it again: (`+)( ?)(.*?)\2\1", line)
    assert code[3] == command and code[1] not in code[3] and line in markdown(arm_rows("a", 1.0, provenance={
        **CONDITIONS, "repro": command}))


def test_a_command_to_measure_again_is_one_line_of_bash(monkeypatch):
    monkeypatch.delenv(MAKE_COMMAND, raising=False)
    words = ["bench", "--image", "caf\udce9 a.jpg", "--prompt", "one\n two"]
    command = repro_command(words, {"sha": None, "dirty": None})
    assert command == r"bench --image $'caf\xe9 a.jpg' --prompt $'one\x0a two'"


@pytest.mark.parametrize("name, made", [("Qwen-VL_7B+x.1", "Qwen-VL_7B+x.1"), ("caf\udce9/../x", "caf-..-x"),
                                        ("a|<b>\n c", "a-b-c"), ("模型", "模型")])
def test_a_preset_names_a_folder(name, made):
    assert preset_name(name) == made


def test_a_dollar_sign_is_no_mathematics(tmp_path):
    stage_figure(arm_rows("torch-eager", 5.0)).savefig(tmp_path / "a.png")


def test_history_of_any_case_is_read_again(tmp_path):
    rows = arm_rows("torch-eager", 5.0)
    append(tmp_path, rows)
    series, _ = read(tmp_path)
    assert len(series) == len(lines_of(rows)) and "a$b&#124;&lt;b>$" in history_markdown(series)
