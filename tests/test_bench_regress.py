"""make regress: exit statuses and their reasons, over simulated runs of the whole command."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench import comparable
from bench import regress as module
from bench.regress import CANNOT_TELL, REGRESSION, outcome, regress, report_outcome
from bench.steps import FILE
from bench.verdict import Verdict
from core.errors import UserError
from tests.bench_options import run_options
from tests.bench_rows import CASE, CONDITIONS, simulated

ARM, BASELINE = "paddle-fused", "baseline.jsonl"


@pytest.fixture
def measurements():
    """The arms of every run that was measured."""
    return []


@pytest.fixture
def machine(monkeypatch, tmp_path, measurements):
    """Call regress on a simulated machine: (exit status, last line printed). Its verdict file is verdict.json."""
    seeds = iter(range(1000))

    def run(update=False, reason="", case=CASE, slower=None, device=1.0, measured_under=None, weights="auto", kept=None,
            codes=False, **conditions):
        now = {**CONDITIONS, **conditions}

        def measured(options, argv, specs=None, for_verdict=False, quiet=None):
            measurements.append(options.arms)
            assert quiet.fixed != update and for_verdict
            rows = simulated(next(seeds), slower=slower, device=device, case=case,
                             conditions={**now, "work": {"weights": kept} if kept else {}, **(measured_under or {})})
            return [replace(row, arm=options.arms[0]) if row.arm == ARM else row for row in rows], {}
        monkeypatch.setattr(module, "measured", measured)
        monkeypatch.setattr(module, "read_inputs", lambda options: (None, None, [0] * case.prompt_tokens))
        monkeypatch.setattr(module.provenance, "collect", lambda *args: now)
        monkeypatch.setattr(module, "watched_gpu", lambda options: None)
        monkeypatch.setattr(comparable, "versions_of", lambda sources, framework: now["versions"])
        monkeypatch.setattr(comparable, "exported_weights", lambda folder: now["checkpoint"]["hash"])
        monkeypatch.setattr(comparable, "Manifest", lambda folder: SimpleNamespace(quantised=codes or None))
        console = Console(record=True, width=400)
        options = run_options(checkpoint=tmp_path, exported_fused=tmp_path, out=str(tmp_path), preset=case.preset,
                              new_tokens=case.new_tokens, weights=weights)
        status = report_outcome(lambda: regress(options, "fused", update, reason, ["bench", "regress"], console),
                                console, tmp_path / "verdict.json")
        return status, console.export_text().strip().splitlines()[-1].strip()
    return run


@pytest.fixture
def verdict(tmp_path):
    return lambda: json.loads((tmp_path / "verdict.json").read_text())


def test_no_baseline(machine):
    status, line = machine()
    assert status == CANNOT_TELL and line.startswith(f"cannot tell: no {BASELINE}") and "UPDATE=1" in line


def test_same_code_is_no_regression(machine):
    assert machine(update=True)[0] == 0
    assert machine() == (0, "no regression")


def test_same_code_on_a_machine_that_became_slower(machine):
    machine(update=True)
    status, line = machine(device=1.3)
    assert status == CANNOT_TELL and "as fast as for the baseline" in line


def test_regression_and_its_verdict_file(machine, verdict):
    machine(update=True)
    status, line = machine(slower={"token": 1.12})
    assert status == REGRESSION and line.startswith("regression: decode +1")
    stored = verdict()
    assert stored["schema"] == 2 and stored["status"] == REGRESSION and stored["line"] == line
    assert {judged["stage"]: judged["verdict"] for judged in stored["verdicts"]}["decode"] == "slower"


def test_regression_that_is_accepted_with_a_reason(machine, tmp_path):
    machine(update=True)
    later = {"time": "2026-01-02T00:00:00+00:00"}
    status, line = machine(slower={"token": 1.12}, reason="exact rounding", **later)
    assert status == 0 and "accepted in" in line and "decode +1" in line
    path, = tmp_path.rglob(FILE)
    step = json.loads(path.read_text())[0]
    assert (step["stage"], step["arm"], step["reason"]) == ("decode", ARM, "exact rounding")
    assert machine(slower={"token": 1.12}, **later) == (0, "no regression")
    assert machine(slower={"token": 1.3}, **later)[0] == REGRESSION
    machine(update=True, slower={"token": 1.12}, time="2026-01-03T00:00:00+00:00")   # the baseline has taken the step
    assert machine(slower={"token": 1.25}, time="2026-01-04T00:00:00+00:00")[0] == REGRESSION


def test_steps_that_are_none_are_refused(machine, tmp_path):
    machine(update=True)
    path, = tmp_path.rglob(BASELINE)
    (path.parent / FILE).write_text('[{"stage": "decode"}]')
    status, line = machine()
    assert status == CANNOT_TELL and FILE in line and "git checkout HEAD" in line


@pytest.mark.parametrize("fault, line", [(RuntimeError("a defect"), "cannot tell: RuntimeError: a defect"),
                                         (UserError("no such thing"), "cannot tell: no such thing")])
def test_what_goes_wrong_is_never_a_regression(tmp_path, fault, line):
    def judge():
        raise fault
    console = Console(record=True, width=400)
    path = tmp_path / "verdict.json"
    assert report_outcome(judge, console, path) == CANNOT_TELL and console.export_text().strip() == line
    assert json.loads(path.read_text()) == {"schema": 2, "status": CANNOT_TELL, "line": line, "verdicts": []}


@pytest.fixture
def refused(machine, measurements):
    """Call regress as `machine` does; it must end as "cannot tell: …" before anything is measured; returns the line."""
    def run(**conditions):
        before = len(measurements)
        status, line = machine(**conditions)
        assert status == CANNOT_TELL and line.startswith("cannot tell: ") and len(measurements) == before, line
        return line
    return run


GPU = {"name": "A Card", "driver": "580", "power_limit_w": 700.0}


@pytest.mark.parametrize("conditions, reason", [
    ({"checkpoint": {"hash": "z", "synthetic": True}}, "other weights (x, now z)"),
    ({"threads": 1}, "other threads (2, now 1)"),
    ({"image": {"xxh3_128": "z"}}, "other image"),
    ({"host": "76543210"}, "other host"),
    ({"gpu": GPU}, "other driver (None, now 580), power limit"),
    ({"versions": {**CONDITIONS["versions"], "paddlepaddle": "3.1"}}, "other paddlepaddle (2.6, now 3.1)"),
    ({"versions": {**CONDITIONS["versions"], "numpy": "1"}}, "other numpy"),
    ({"cpu": "Another CPU"}, "no baseline at"),
    ({"cpu": "A  CPU"}, "other CPU"),
    ({"case": replace(CASE, new_tokens=16)}, f"(this machine has {CASE.slug})"),
])
def test_other_conditions_are_refused_before_anything_is_measured(machine, refused, conditions, reason):
    machine(update=True)
    line = refused(**conditions)
    assert reason in line and "UPDATE=1" in line


def test_card_that_cannot_be_told_has_no_baseline():
    with pytest.raises(UserError, match="which card this is cannot be told"):
        comparable.path_of("results", replace(CASE, device="gpu"), CONDITIONS, "auto")


def test_a_baseline_belongs_to_its_card(tmp_path):
    gpu = replace(CASE, device="gpu")
    path = comparable.path_of(tmp_path, gpu, {**CONDITIONS, "gpu": {"name": "NVIDIA H200"}}, "auto")
    assert path == tmp_path / "nvidia-h200" / gpu.slug / BASELINE


@pytest.mark.parametrize("update", [False, True])
def test_a_busy_machine_is_not_compared(machine, tmp_path, update):
    machine(update=True)
    path, = tmp_path.rglob(BASELINE)
    stored = path.read_bytes()
    status, line = machine(update=update, measured_under={"during": {"others_cores": {"median": 1.0}, "gpu": "none"}})
    assert status == CANNOT_TELL and "idle machine" in line and path.read_bytes() == stored


def changed(path, **change):
    """The content of a stored baseline with other fields in every row, a function of the row for each."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return "".join(json.dumps({**row, **{name: made(row) for name, made in change.items()}}) + "\n"
                   for row in rows).encode()


def without(name):
    return lambda path: changed(path, provenance=lambda row: {key: value for key, value in row["provenance"].items()
                                                              if key != name})


@pytest.mark.parametrize("damage, reason", [
    (lambda path: b"<<<<<<< HEAD\n" + path.read_bytes(), "line 1"),
    (lambda path: path.read_bytes() + b">>>>>>> branch\n", "conflict"),
    (lambda path: path.read_bytes()[:-20], "cut off or damaged"),
    (lambda path: b"", "no rows"), (lambda path: b"\xff\xfe" * 20, "line 1"), (lambda path: b"[]\n", "line 1"),
    (lambda path: changed(path, schema=lambda row: 1), "schema 1"),
    (lambda path: changed(path, benchmark=lambda row: 0), "benchmark version 0"),
    (lambda path: changed(path, case=lambda row: {**row["case"], "new_tokens": 16}), "of case"),
    (lambda path: changed(path, case=lambda row: {**row["case"], "batch": row["stage"] == "ttft"}), "of case"),
    (lambda path: changed(path, arm=lambda row: row["arm"].replace("fused", "native")), f"no {ARM}"),
    (lambda path: changed(path, arm=lambda row: row["arm"].replace("yardstick", "x")), "damaged"),
    (lambda path: changed(path, launches=lambda row: [1]), "launches"),
    (lambda path: changed(path, samples=lambda row: [], launches=lambda row: []), f"no {ARM}"),
    (lambda path: changed(path, samples=lambda row: ["1"] * len(row["samples"])), "no number"),
    (lambda path: changed(path, samples=lambda row: [0.0] * len(row["samples"])), "damaged"),
    (lambda path: changed(path, samples=lambda row: [float("nan")] * len(row["samples"])), "damaged"),
    (lambda path: changed(path, provenance=lambda row: []), "damaged"),
    *((without(name), "damaged") for name in ("checkpoint", "image", "threads", "cpu", "host", "gpu", "versions",
                                              "time", "git")),
])
def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(machine, refused, tmp_path, damage, reason):
    machine(update=True)
    path, = tmp_path.rglob(BASELINE)
    path.write_bytes(damage(path))
    line = refused()
    assert reason in line and "UPDATE=1" in line


@pytest.mark.parametrize("update", [False, True])
def test_an_arm_without_weights_is_refused_before_anything_is_measured(monkeypatch, tmp_path, update):
    monkeypatch.setattr(module, "measured", lambda *_, **__: pytest.fail("measured"))
    options = run_options(checkpoint=tmp_path, exported_fused="/no/such", out=str(tmp_path))
    with pytest.raises(UserError, match="/no/such does not exist: export it first"):
        regress(options, "fused", update, "", [], Console())


def test_statuses():
    assert outcome([Verdict("vision", "same"), Verdict("decode", "faster", -0.1)]) == (0, "no regression")
    assert outcome([Verdict("vision", "insufficient", reason="fewer than 4 launches"),
                    Verdict("decode", "slower", 0.1)]) == (REGRESSION, "regression: decode +10.0 %")
    assert outcome([Verdict("vision", "ambiguous")]) == (CANNOT_TELL, "cannot tell: vision ambiguous")


def test_a_rounded_arm_has_a_baseline_of_its_own(machine, tmp_path, measurements):
    assert machine(update=True)[0] == 0
    status, line = machine(weights="int8")
    assert status == CANNOT_TELL and "no baseline-int8.jsonl below" in line and len(measurements) == 1
    assert machine(update=True, weights="int8", kept="int8")[0] == 0
    assert machine(weights="int8", kept="int8") == machine() == (0, "no regression")
    assert measurements == [(ARM,), ("paddle-fused-int8",), ("paddle-fused-int8",), (ARM,)]
    assert {path.name for path in tmp_path.rglob("baseline*")} == {BASELINE, "baseline-int8.jsonl"}


@pytest.mark.parametrize("stored, weights, codes, words", [
    ("", "auto", True, "(numbers, now codes)"), ("int4+float32", "auto", False, "(codes, now numbers)"),
    ("int4+float32", CASE.dtype, True, "(codes, now numbers)"), ("int4+float32", "auto", True, ""),
    ("", CASE.dtype, True, "")])
def test_a_baseline_of_another_format_is_refused_before_anything_is_measured(machine, measurements, stored, weights,
                                                                             codes, words):
    machine(update=True, kept=stored)
    status, line = machine(weights=weights, kept=stored, codes=codes)
    if words:
        assert status == CANNOT_TELL and f"the baseline has other matrices {words}" in line
        assert len(measurements) == 1
    else:
        assert (status, line) == (0, "no regression")


def test_a_baseline_under_the_name_of_another_format(machine, tmp_path, measurements):
    machine(update=True)
    path, = tmp_path.rglob(BASELINE)
    path.rename(path.with_name("baseline-int8.jsonl"))
    status, line = machine(weights="int8")
    assert status == CANNOT_TELL and "the baseline has no paddle-fused-int8" in line and len(measurements) == 1
