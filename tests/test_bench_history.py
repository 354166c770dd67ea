"""The timeline: what a run adds, that series are not mixed, where change points are found and where not."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from bench.history import (
    FILE,
    Series,
    append,
    change_points,
    changes_of,
    history_markdown,
    lines_of,
    read,
    unreadable,
    write_history,
)
from bench.provenance import machine_name, paddle_version
from bench.schema import BENCHMARK, Case, Row
from core.errors import UserError
from scripts.wheels import wheels

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)


def run(day, median, arm="torch-eager", cpu="A CPU", case=CASE, stage="end_to_end", **changes):
    conditions = {"cpu": cpu, "cores": 2, "time": f"2026-01-{day:02}T00:00:00+00:00", "versions": {},
                  "git": {"sha": f"{day:040x}", "dirty": False}}
    return Row(**{"arm": arm, "stage": stage, "status": "ok", "reason": "", "samples": [median], "case": case,
                  "provenance": conditions, **changes})


def test_lines_of_a_run():
    rows = [run(1, 5.0), run(1, 7.0, stage="load"), run(1, 3.0, arm="b", status="failed", reason="gate failed")]
    line, = lines_of(rows)
    assert line == {"schema": 2, "benchmark": BENCHMARK, "date": "2026-01-01T00:00:00+00:00", "sha": f"{1:040x}",
                    "dirty": False, "machine": "a-cpu-2-cores", "host": "", "case": CASE.slug, "arm": "torch-eager",
                    "stage": "end_to_end", "unit": "ms", "median": 5.0, "n": 1}


def test_machines_cases_and_versions_are_never_mixed(tmp_path):
    other = Case("small", "float32", "cpu", 1, 290, 8)
    for rows in ([run(2, 5.0)], [run(1, 6.0)], [run(3, 1.0, cpu="B")], [run(3, 2.0, case=other)],
                 [run(4, 9.0, benchmark=BENCHMARK + 1)]):
        append(tmp_path, rows)
    series, others = read(tmp_path)
    medians = {key: [line["median"] for line in lines] for key, lines in series.items()}
    assert medians == {Series("a-cpu-2-cores", "", CASE.slug, "torch-eager", "end_to_end"): [6.0, 5.0],
                       Series("b-2-cores", "", CASE.slug, "torch-eager", "end_to_end"): [1.0],
                       Series("a-cpu-2-cores", "", other.slug, "torch-eager", "end_to_end"): [2.0]}
    assert others == 1 and "Left out: 1 line of other benchmark versions." in history_markdown(series, others)


def test_hosts_are_kept_apart(tmp_path):
    for day, host in ((1, "aa"), (2, "bb"), (3, "aa")):
        row = run(day, float(day))
        append(tmp_path, [replace(row, provenance={**row.provenance, "host": host})])
    series, _ = read(tmp_path)
    assert {key.host: len(lines) for key, lines in series.items()} == {"aa": 2, "bb": 1}
    text = history_markdown(series)
    assert "host aa" in text and "host bb" in text


def test_lines_that_do_not_know_their_host_are_read(tmp_path):
    append(tmp_path, [run(1, 5.0)])
    line = json.loads((tmp_path / FILE).read_text())
    del line["host"]
    (tmp_path / FILE).write_text(json.dumps({**line, "schema": 1}) + "\n")
    key, = read(tmp_path)[0]
    assert key.host == ""
    (tmp_path / FILE).write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="lacks host"):
        read(tmp_path)


def test_accepted_step_gives_its_reason_at_its_change():
    lines = [{"date": f"2026-01-{day:02}T00:00:00+00:00", "sha": f"{day:040x}", "dirty": False,
              "median": 100.0 + day % 3 + 20 * (day > 10)} for day in range(1, 21)]
    series = {Series("m", "", "c", "a", "decode"): lines}
    step = {"date": "2026-01-11T00:00:00+00:00", "sha": f"{11:040x}", "arm": "a", "stage": "decode", "change": 0.2,
            "reason": "exact rounding"}
    assert "accepted: exact rounding" in history_markdown(series, 0, lambda machine, case: [step])
    assert "accepted" not in history_markdown(series, 0, lambda machine, case: [{**step, "stage": "vision"}])


@pytest.mark.parametrize("text, message", [
    ("{", "line 1 is cut off or damaged"), ("[1]\n", "line 1 is no line"), ('{"schema": 99}\n', "schema 99"),
    ('{"schema": 1}\n', "lacks benchmark")])
def test_damaged_history_is_refused(tmp_path, text, message):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def mend(message):
    """Run the command that ends an error."""
    subprocess.run(["bash", "-c", message[message.index("sed "):]], check=True)


def test_a_torn_line_costs_its_own_record_alone(tmp_path):
    append(tmp_path, [run(1, 5.0)])
    append(tmp_path, [run(2, 6.0)])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-40])
    append(tmp_path, [run(3, 7.0)])
    fault = unreadable(tmp_path)
    assert "line 2 is cut off or damaged" in fault
    assert fault.endswith(f"delete that line, the others stay: sed -i 2d {path}")
    mend(fault)
    (lines,) = read(tmp_path)[0].values()
    assert [line["median"] for line in lines] == [5.0, 7.0] and unreadable(tmp_path) == ""


def test_marks_of_a_conflict_go_and_both_sides_stay(tmp_path):
    path, texts = tmp_path / FILE, []
    for day, median in ((1, 5.0), (2, 6.0), (3, 7.0)):
        append(tmp_path, [run(day, median)])
        texts.append(path.read_text().splitlines()[-1])
    path.write_text("\n".join([texts[0], "<<<<<<< HEAD", texts[1], "=======", texts[2], ">>>>>>> other", ""]))
    append(tmp_path, [run(4, 8.0)])
    fault = unreadable(tmp_path)
    assert "line 2 is a mark of a conflict in git: keep the lines of both sides: sed" in fault
    mend(fault)
    (lines,) = read(tmp_path)[0].values()
    assert [line["median"] for line in lines] == [5.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize("changes, message", [
    ({"machine": "../../elsewhere"}, "no name of a folder"), ({"case": "a\n"}, "texts that can be shown"),
    ({"sha": 5}, "texts that can be shown"), ({"median": float("inf")}, "no median"), ({"median": "5"}, "no median")])
def test_a_line_with_other_values_is_refused(tmp_path, changes, message):
    (line,) = lines_of([run(1, 5.0)])
    (tmp_path / FILE).write_text(json.dumps(line | changes) + "\n")
    with pytest.raises(UserError, match=f"line 1 .*{message}.*: delete that line"):
        read(tmp_path)


def test_no_history(tmp_path):
    with pytest.raises(UserError, match="make bench"):
        read(tmp_path)


@pytest.mark.parametrize("steps", [[(10, 100.0), (10, 90.0)], [(8, 100.0), (9, 110.0), (12, 80.0)]])
def test_planted_changes_are_found(steps):
    noise = np.random.default_rng(0)
    values = np.concatenate([level * noise.normal(1, 0.01, runs) for runs, level in steps])
    assert change_points(values) == list(np.cumsum([runs for runs, _ in steps])[:-1])


def test_noise_alone_is_seldom_a_change():
    noise = np.random.default_rng(1)
    assert sum(bool(change_points(noise.normal(100, 5, 20))) for _ in range(100)) <= 5


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5 + [2.0] * 4])
def test_too_few_runs_for_a_change(values):
    assert change_points(values) == []


def test_a_difference_below_the_effect_is_no_change():
    assert change_points([100.0, 100.1, 100.2, 100.3, 100.4, 100.5, 100.6] + [101.0, 101.1, 101.2, 101.3, 101.4,
                                                                             101.5, 101.6]) == []


def test_change_names_its_run(tmp_path):
    for day in range(1, 15):
        append(tmp_path, [run(day, (100.0 if day < 8 else 80.0) + day / 10)])
    text, written = write_history(tmp_path)
    lines, = read(tmp_path)[0].values()
    change, = changes_of(lines)
    assert change["date"].startswith("2026-01-08") and change["before"] == pytest.approx(100.4)
    assert "2026-01-08 00000000: 100.4 → 81.1 (-19.2 %)" in text
    assert [path.name for path in written] == ["history.md", "history.png"]
    assert written[1].parent.name == CASE.slug and written[1].read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_another_benchmark_version_goes(tmp_path):
    for day in (1, 2):
        append(tmp_path, [run(day, 100.0, benchmark=BENCHMARK - 1)])
    append(tmp_path, [run(3, 90.0)])
    (series,) = read(tmp_path)[0]
    picture = tmp_path / series.machine / series.case / "history.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"of both runs before")
    _, written = write_history(tmp_path)
    assert written == [tmp_path / "history.md"] and not picture.exists()


def test_lines_are_json(tmp_path):
    append(tmp_path, [run(1, 5.0)])
    assert json.loads((tmp_path / FILE).read_text())["median"] == 5.0


def test_the_machine_of_another_paddle_is_another_one():
    conditions = {"cpu": "A CPU", "cores": 2}
    assert machine_name(conditions, None) == machine_name({**conditions, "paddle": "2.6.2"}, None) == "a-cpu-2-cores"
    assert machine_name({**conditions, "paddle": "3.3.1"}, None) == "a-cpu-2-cores-paddle-3-3-1"
    assert machine_name({**conditions, "paddle": "3.3.1"}, "A GPU") == "a-gpu-paddle-3-3-1"
    assert any(line.endswith(f" {paddle_version()}") for line in wheels())
