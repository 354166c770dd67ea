"""The workflow of regression tracking: its steps run here as a runner runs them, with a make that measures nothing."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_docs import call_fault

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "workflows" / "regress.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
JOB = WORKFLOW["jobs"]["regress"]
STEPS = {step["name"]: step for step in JOB["steps"] if "run" in step}
LAST_LINES = {0: "no regression", 1: "regression: decode +5.1 %", 2: "cannot tell: decode ambiguous"}
MAKE = """#!/bin/bash
echo "$*" >> "$CALLS"
for word in "$@"; do case $word in VERDICT=*) file=${word#VERDICT=};; esac; done
if [[ $1 == setup ]]; then exit 0; fi
echo "$LAST_LINE"
printf '{"status": %d}\\n' "$STATUS" > "$file"
[[ $STATUS == 0 ]] || exit 2
"""


@pytest.fixture
def perform(tmp_path):
    """Runs a step by its name, as a runner does; returns (process, calls of make, the job's summary)."""
    (make := tmp_path / "make").write_text(MAKE)
    make.chmod(0o755)
    calls, summary = tmp_path / "calls", tmp_path / "summary"

    def run(name, status=0):
        script = STEPS[name]["run"]
        assert "${{" not in script   # a value that GitHub puts into a script could be code
        environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path),
                       "OPTIONS": "PRESET=tiny BUDGET=60", "RUNNER_TEMP": str(tmp_path), "CALLS": str(calls),
                       "GITHUB_STEP_SUMMARY": str(summary), "STATUS": str(status), "LAST_LINE": LAST_LINES[status]}
        done = subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=ROOT,
                              env=environment, capture_output=True, text=True)
        return done, calls.read_text().splitlines(), summary.read_text() if summary.exists() else ""
    return run


@pytest.mark.parametrize("status, ended", [(0, 0), (1, 1), (2, 0)])
def test_the_comparison_ends_as_its_verdict_says(perform, status, ended):
    done, (call,), summary = perform("Compare with the baseline", status)
    assert done.returncode == ended, done.stderr
    assert call.startswith("regress PRESET=tiny BUDGET=60 OUT=/") and "UPDATE" not in call
    assert LAST_LINES[status] in summary
    assert (f"::warning title=regress::{LAST_LINES[2]}" in done.stdout) == (status == 2)


@pytest.mark.parametrize("status, ended", [(0, 0), (2, 2)])
def test_a_baseline_that_is_not_stored_fails_the_job(perform, status, ended):
    done, (call,), _ = perform("Store a baseline", status)
    assert done.returncode == ended and " UPDATE=1 " in call
    assert re.search(r"OUT=\S+", call)[0] in perform("Compare with the baseline")[1][-1]


def test_set_up_has_the_same_variables(perform):
    assert perform("Set up")[1] == ["setup PRESET=tiny BUDGET=60"]


def test_commands_name_what_there_is():
    lines = [line.strip() for step in STEPS.values() for line in step["run"].splitlines()]
    scripts = {name for line in lines for name in re.findall(r"scripts/\w+\.sh", line)}
    assert scripts == {"scripts/regress.sh"} and all(os.access(ROOT / name, os.X_OK) for name in scripts)
    calls = [line.replace("scripts/regress.sh", "make regress").replace("$OPTIONS", "") for line in lines]
    assert set(map(call_fault, calls)) == {""} and sum(call.startswith("make") for call in calls) >= 3


def test_it_runs_on_a_machine_that_was_named_and_never_for_a_fork():
    assert JOB["runs-on"] == ["self-hosted", "${{ vars.BENCH_RUNNER }}"] and JOB["env"] == {
        "OPTIONS": "${{ vars.BENCH_OPTIONS }}"}
    assert "vars.BENCH_RUNNER != ''" in JOB["if"] and "head.repo.full_name == github.repository" in JOB["if"]
    assert WORKFLOW["permissions"] == {"contents": "read"} and WORKFLOW["defaults"] == {"run": {"shell": "bash"}}


def test_one_of_two_steps_runs():
    assert STEPS["Store a baseline"]["if"] == "inputs.update"
    assert STEPS["Compare with the baseline"]["if"] == "${{ !inputs.update }}"
