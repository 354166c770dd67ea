"""make regress: exit statuses and their reasons, over simulated runs of the whole command."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from bench import regress as module
from bench.contest import Entry
from bench.regress import BASELINE, BUDGET, CANNOT_TELL, REGRESSION, ROUNDS, RULER, outcome, regress, report_outcome
from bench.schema import Case, Row
from bench.stopping import CHECK_EVERY
from bench.verdict import STAGES, Verdict
from core.errors import UserError
from tests.bench_noise import PARTS, Noise
from tests.bench_options import run_options

TRIALS, SHARE = 20, 0.05
CASE = Case("small", "float32", "cpu", 1, 316, 32)
ARM, AGAIN = "paddle-fused", "base-again"
CONDITIONS = {"cpu": "A CPU", "cores": 2, "threads": 2, "platform": "Linux", "memory_mib": 1000, "load_average": 0.0,
              "checkpoint": {"hash": "x", "synthetic": True}, "image": {"xxh3_128": "y"}, "time": "now",
              "git": {"sha": "0" * 40}, "versions": {"torch": "2"},
              "rounds": {"asked": 9, "done": 9, "stopped": "budget", "interrupted": False}}


@pytest.fixture(scope="module")
def noise():
    return Noise()


@pytest.fixture
def measurements():
    """The arms of every run that was measured."""
    return []


@pytest.fixture
def machine(noise, monkeypatch, tmp_path, measurements):
    """Call regress on a simulated machine: (exit status, last line printed). Its verdict file is verdict.json."""
    seeds = iter(range(1000))
    seconds = {ARM: noise.pass_seconds, RULER: noise.pass_seconds_of[RULER], AGAIN: noise.pass_seconds}

    def run(update=False, slow_part=None, share=0.0, speed=1.0, slow_runs=2, out=tmp_path, case=CASE, **conditions):
        left = [slow_runs]

        now = {**CONDITIONS, **conditions}

        def measured(options, argv, specs=None, narrow=None, before=None):
            """As many rounds as the stopping rule and the default budget leave."""
            if before:
                before(case, now)
            measurements.append(options.arms)
            slower = share if left[0] > 0 else 0.0
            left[0] -= 1
            most = int(options.limits.budget / sum(seconds[arm] for arm in options.arms))
            workers = noise.passes(np.random.default_rng(next(seeds)), most, workers=len(options.arms),
                                   slow_part=slow_part, share=slower, slow_worker=0)
            arms = dict(zip(options.arms, workers, strict=True))
            made = next((rounds for rounds in range(CHECK_EVERY, most, 4 * CHECK_EVERY) if narrow(
                [Entry(name=arm, samples={stage: values[:rounds] for stage, values in stages.items()})
                 for arm, stages in arms.items()])), most)
            return [Row(arm, stage, "ok", "", [speed * value for value in arms[arm][stage][:made]], case, now)
                    for arm in options.arms for stage in STAGES], {}
        monkeypatch.setattr(module, "measured", measured)
        console = Console(record=True, width=400)
        monkeypatch.setattr(module, "ruler_facts", lambda sources, device: {**now["versions"], "device_name": None})
        options = run_options(checkpoint=out, exported_fused=out, out=str(out), budget=BUDGET, rounds=ROUNDS)
        status = report_outcome(lambda: regress(options, "fused", update, ["bench", "regress"], console), console,
                                tmp_path / "verdict.json")
        return status, console.export_text().strip().splitlines()[-1].strip()
    return run


@pytest.fixture
def verdict(tmp_path):
    return lambda: json.loads((tmp_path / "verdict.json").read_text())


def test_no_baseline(machine):
    status, line = machine()
    assert status == CANNOT_TELL and line.startswith(f"cannot tell: no {BASELINE}") and "UPDATE=1" in line


def test_same_code_on_a_machine_that_became_slower(machine):
    assert machine(update=True)[0] == 0
    status, line = machine(speed=1.3)
    assert status != REGRESSION, line


def test_regression_is_confirmed(machine, verdict):
    machine(update=True)
    status, line = machine(slow_part="decode", share=0.12)
    assert status == REGRESSION and line.startswith("regression: decode +")
    stored = verdict()
    assert stored["schema"] == 1 and stored["status"] == REGRESSION and stored["line"] == line
    assert {judged["stage"]: judged["verdict"] for judged in stored["verdicts"]}["decode"] == "slower"


def test_planted_slowdown_is_a_regression_in_its_stage(machine, tmp_path):
    found = []
    for trial in range(TRIALS):
        out, part = tmp_path / str(trial), PARTS[trial % len(PARTS)]
        machine(update=True, out=out)
        status, line = machine(slow_part=part, share=SHARE, out=out)
        others = set(PARTS) - {part}
        found.append(status == REGRESSION and f"{part} +" in line and not any(f"{name} +" in line for name in others))
    assert sum(found) >= 19, found


def test_same_code_is_no_regression(machine, tmp_path):
    found = []
    for trial in range(TRIALS):
        machine(update=True, out=tmp_path / str(trial))
        found.append(machine(out=tmp_path / str(trial))[0] == REGRESSION)
    assert sum(found) <= 1, found


@pytest.mark.parametrize("fault, line", [(RuntimeError("a defect"), "cannot tell: RuntimeError: a defect"),
                                         (UserError("no such thing"), "cannot tell: no such thing")])
def test_what_goes_wrong_is_never_a_regression(tmp_path, fault, line):
    def judge():
        raise fault
    console = Console(record=True, width=400)
    path = tmp_path / "verdict.json"
    assert report_outcome(judge, console, path) == CANNOT_TELL and console.export_text().strip() == line
    assert json.loads(path.read_text()) == {"schema": 1, "status": CANNOT_TELL, "line": line, "verdicts": []}


def test_regression_that_the_re_run_does_not_show(machine):
    machine(update=True)
    status, line = machine(slow_part="decode", share=0.12, slow_runs=1)
    assert status == CANNOT_TELL and "a re-run did not confirm" in line


@pytest.fixture
def refused(machine, measurements):
    """Call regress as `machine` does; it must end as "cannot tell: …" before anything is measured. Returns the line."""
    def run(**conditions):
        before = len(measurements)
        status, line = machine(**conditions)
        assert status == CANNOT_TELL and line.startswith("cannot tell: ") and len(measurements) == before, line
        return line
    return run


@pytest.mark.parametrize("conditions, reason", [
    ({"checkpoint": {"hash": "z", "synthetic": True}}, "other weights"),
    ({"threads": 1}, "other threads"),
    ({"image": {"xxh3_128": "z"}}, "other image"),
    ({"versions": {"torch": "3"}}, "ran on torch 2, now 3"),
    ({"cpu": "Another CPU"}, "no baseline at"),
    ({"cpu": "A  CPU"}, "other CPU"),
    ({"case": replace(CASE, new_tokens=16)}, "no baseline at"),
])
def test_other_conditions_are_refused_before_anything_is_measured(machine, refused, conditions, reason):
    machine(update=True)
    line = refused(**conditions)
    assert reason in line and "UPDATE=1" in line


def test_a_busy_machine_is_not_compared(machine):
    machine(update=True)
    status, line = machine(during={"others_cores": {"median": 1.0}, "gpu": "none"})
    assert status == CANNOT_TELL and "idle machine" in line


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
    (lambda path: changed(path, arm=lambda row: row["arm"].replace("sdpa", "eager")), f"no {RULER}"),
    (lambda path: changed(path, samples=lambda row: []), f"no {ARM}"),
    (lambda path: changed(path, samples=lambda row: ["1"] * 9), "no number"),
    (lambda path: changed(path, samples=lambda row: [0.0] * 9), "damaged"),
    (lambda path: changed(path, samples=lambda row: [float("nan")] * 9), "damaged"),
    (lambda path: changed(path, provenance=lambda row: []), "damaged"),
    *((without(name), "damaged") for name in ("checkpoint", "image", "threads", "cpu", "versions", "time", "git")),
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
        regress(options, "fused", update, [], Console())


def test_a_baseline_belongs_to_the_card_that_the_ruler_sees(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ruler_facts", lambda sources, device: {"torch": "2", "device_name": "NVIDIA H200"})
    gpu = replace(CASE, device="gpu")
    with pytest.raises(UserError, match=f"no baseline at {tmp_path}/nvidia-h200/{gpu.slug}/"):
        module.comparable_baseline(run_options(out=str(tmp_path), device="gpu"), ARM, gpu, CONDITIONS)


def test_the_ruler_tells_its_version(tmp_path):
    python = {"torch": os.environ.get("TORCH_PYTHON") or sys.executable}
    facts = module.ruler_facts(run_options(python=python).sources, "cpu")
    assert facts["torch"][0].isdigit() and facts["device_name"] is None


def test_an_interpreter_without_the_ruler(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named torch' >&2\nexit 1\n")
    python.chmod(0o755)
    for path, reason in ((python, "No module named torch"), (tmp_path / "none", "No such file")):
        with pytest.raises(UserError, match=reason):
            module.ruler_facts(run_options(python={"torch": str(path)}).sources, "cpu")


def test_rounds_end_where_one_of_the_two_has_dropped_out():
    assert module.narrow_to_ruler([Entry(name=RULER, samples={"end_to_end": [1.0] * 9})])
    assert module.narrow_to_ruler([Entry(name=ARM, samples={"end_to_end": [1.0] * 9})])


def test_busy_machine_stores_no_baseline(machine, tmp_path):
    status, line = machine(update=True, during={"others_cores": {"median": 1.0}, "gpu": "none"})
    assert status == CANNOT_TELL and "no baseline stored" in line and not list(tmp_path.rglob(BASELINE))


def test_statuses():
    assert outcome([Verdict("vision", "same"), Verdict("decode", "faster", -0.1)]) == (0, "no regression")
    assert outcome([Verdict("vision", "insufficient", reason="fewer than 8 rounds"),
                    Verdict("decode", "slower", 0.1)]) == (REGRESSION, "regression: decode +10.0 %")
    assert outcome([Verdict("vision", "ambiguous")]) == (CANNOT_TELL, "cannot tell: vision ambiguous")
