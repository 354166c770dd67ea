"""make regress: exit statuses and their reasons, over simulated runs."""

import json

import numpy as np
import pytest
from rich.console import Console

from bench import regress as module
from bench.regress import BASELINE, CANNOT_TELL, REGRESSION, RULER, RegressOptions, outcome, regress
from bench.schema import Case, Row
from bench.verdict import STAGES, Verdict
from tests.bench_noise import Noise

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
def machine(noise, monkeypatch, tmp_path):
    """Call regress on a simulated machine; returns (exit status, last line printed)."""
    seeds = iter(range(100))

    def run(update=False, slow_part=None, share=0.0, speed=1.0, slow_runs=2, **conditions):
        left = [slow_runs]

        def measured(options, argv, specs=None, narrow=None):
            now = share if left[0] > 0 else 0.0
            left[0] -= 1
            workers = noise.passes(np.random.default_rng(next(seeds)), 340, slow_part=slow_part, share=now,
                                   slow_worker=0)
            arms = dict(zip((ARM, RULER, AGAIN), workers, strict=True))
            return [Row(arm, stage, "ok", "", [speed * value for value in arms[arm][stage]], CASE,
                        {**CONDITIONS, **conditions}) for arm in options.arms for stage in STAGES], {}
        monkeypatch.setattr(module, "measured", measured)
        console = Console(record=True, width=400)
        options = RegressOptions(checkpoint="", image="", prompt="", out=str(tmp_path), update=update)
        status = regress(options, ["python", "-m", "bench", "regress"], console)
        return status, console.export_text().strip().splitlines()[-1].strip()
    return run


def test_no_baseline(machine):
    status, line = machine()
    assert status == CANNOT_TELL and line.startswith(f"cannot tell: no {BASELINE}") and "UPDATE=1" in line


def test_same_code_on_a_machine_that_became_slower(machine):
    assert machine(update=True)[0] == 0
    status, line = machine(speed=1.3)
    assert status != REGRESSION, line


def test_regression_is_confirmed(machine):
    machine(update=True)
    status, line = machine(slow_part="decode", share=0.12)
    assert status == REGRESSION and line.startswith("regression: decode +")


def test_regression_that_the_re_run_does_not_show(machine):
    machine(update=True)
    status, line = machine(slow_part="decode", share=0.12, slow_runs=1)
    assert status == CANNOT_TELL and "a re-run did not confirm" in line


@pytest.mark.parametrize("conditions, reason", [
    ({"checkpoint": {"hash": "z", "synthetic": True}}, "other weights"),
    ({"threads": 1}, "other threads"),
    ({"versions": {"torch": "3"}}, "ran on torch 2, now 3"),
    ({"during": {"others_cores": {"median": 1.0}, "gpu": "none"}}, "idle machine"),
    ({"cpu": "Another CPU"}, "no baseline at"),
])
def test_other_conditions_are_not_compared(machine, conditions, reason):
    machine(update=True)
    status, line = machine(**conditions)
    assert status == CANNOT_TELL and line.startswith("cannot tell: ") and reason in line


@pytest.mark.parametrize("change", [{"schema": 1}, {"benchmark": 0}])
def test_baseline_of_another_version(machine, tmp_path, change):
    machine(update=True)
    path, = tmp_path.rglob(BASELINE)
    rows = [{**json.loads(line), **change} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, line = machine()
    assert status == CANNOT_TELL and "UPDATE=1" in line


def test_busy_machine_stores_no_baseline(machine, tmp_path):
    status, line = machine(update=True, during={"others_cores": {"median": 1.0}, "gpu": "none"})
    assert status == CANNOT_TELL and "no baseline stored" in line and not list(tmp_path.rglob(BASELINE))


def test_statuses():
    assert outcome([Verdict("vision", "same"), Verdict("decode", "faster", -0.1)]) == (0, "no regression")
    assert outcome([Verdict("vision", "insufficient", reason="fewer than 8 rounds"),
                    Verdict("decode", "slower", 0.1)]) == (REGRESSION, "regression: decode +10.0 %")
    assert outcome([Verdict("vision", "ambiguous")]) == (CANNOT_TELL, "cannot tell: vision ambiguous")
