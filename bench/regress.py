"""This version against the stored baseline of the same machine and case: did a stage become slower?

The two were measured at different times, so each stage is divided by that of a ruler in the same round: torch-sdpa,
whose code is not this repository's operators. What has changed the machine since then changed the ruler as well.
"""

import functools
import json
import math
import os
import subprocess
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from bench import card
from bench.arms import ARMS
from bench.compare import AGAIN, is_narrow, stopped_line
from bench.provenance import machine_name
from bench.report import conditions_line
from bench.results import check_writable, folder_of
from bench.run import measured
from bench.schema import BENCHMARK, SCHEMA, read_rows, write_rows
from bench.session import missing_source
from bench.stopping import NARROW
from bench.verdict import (
    STAGES,
    against_stored,
    decided,
    interrupted,
    invalid,
    noise_floor,
    paired_logs,
    samples_of,
    slower,
    verdict_table,
    why_invalid,
)
from core.errors import UserError
from core.files import atomic_file
from core.text import one_line

RULER = "torch-sdpa"
RULER_STAGES = {"preprocess": "vision"}   # preprocessing is this repository's code in every arm: no ruler for itself
BASELINE = "baseline.jsonl"
REGRESSION, CANNOT_TELL, INTERRUPTED = 1, 2, 130   # exit statuses
VERDICT_SCHEMA = 1                        # of the file that --verdict names
RENEW = "store it again with UPDATE=1"
BUDGET = 900   # seconds of rounds; more than a comparison needs, since the ruler takes its part of the noise twice
ROUNDS = 2000
RENEW_OR_RESTORE = f"restore the file, or {RENEW}"
IMPORT_SECONDS = 300
ASK_RULER = """
import json, sys, torch
print(json.dumps({"torch": torch.__version__,
                  "device_name": torch.cuda.get_device_name() if sys.argv[1] == "gpu" else None}))
"""


def ruler_stage(stage):
    return RULER_STAGES.get(stage, stage)


def narrow_to_ruler(entries):
    """The stopping rule: looks every CHECK_EVERY rounds at the arm over its ruler; the stored side is as wide.

    Where one of the two has dropped out there is nothing to wait for.
    """
    arms = {entry.name: entry.samples for entry in entries}
    name = next((name for name in arms if name not in (RULER, AGAIN)), None)
    if name is None or RULER not in arms:
        return True

    def differences_of(stage):
        ours, ruler = paired_logs(arms[name][stage], arms[RULER][ruler_stage(stage)])
        return ours - ruler
    return is_narrow(arms[name], differences_of, NARROW / 2 ** 0.5)


def judge_stored(arm, baseline, rows):
    """Verdicts on `arm` in one run's rows against the baseline's rows, stage by stage."""
    before, now = samples_of(baseline), samples_of(rows)
    verdicts = []
    for stage in STAGES:
        old, new = ((arms[arm].get(stage, []), arms[RULER].get(ruler_stage(stage), [])) for arms in (before, now))
        if any((*old, *new)) or stage == "end_to_end":
            floor = noise_floor(old[0], before.get(AGAIN, {}).get(stage, []))
            verdicts.append(against_stored(stage, old, new, floor))
    reason = why_invalid(rows)
    return invalid(verdicts, reason) if reason else verdicts


def ruler_facts(sources, device):
    """{"torch": version, "device_name": of the card, None for the CPU} of the ruler's interpreter; UserError."""
    python = sources.python["torch"]
    environment = {**os.environ, **card.counted_as_nvml(), **sources.environment.get("torch", {})}
    try:
        done = subprocess.run([python, "-P", "-c", ASK_RULER, device], env=environment, capture_output=True, text=True,
                              errors="replace", timeout=IMPORT_SECONDS)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as e:
        fault = str(e)
    except ValueError:
        fault = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]
    raise UserError(f"{RULER} cannot run in {python} ({fault}): give TORCH_PYTHON=")


def read_baseline(path):
    """Rows of a stored baseline; UserError when it is damaged or of another version than this one."""
    if not path.is_file():
        raise UserError(f"no baseline at {path}: store one with UPDATE=1 on a version that is known to be good")
    rows = read_rows(path, RENEW)
    for row in rows:
        for name, stored, current in (("schema", row.schema, SCHEMA), ("benchmark version", row.benchmark, BENCHMARK)):
            if stored != current:
                raise UserError(f"{path} is of {name} {stored}, this version measures {current}: {RENEW}")
    return rows


def check_same_conditions(baseline, arm, case, conditions):
    """Raise UserError unless what is to be measured under `conditions` may be compared with the baseline's rows."""
    arms = samples_of(baseline)
    for row in baseline:
        before = row.provenance
        if row.case != case:
            raise UserError(f"the baseline is of case {row.case.slug}, not {case.slug}: {RENEW}")
        for name, of in (("weights", lambda p: p["checkpoint"]["hash"]), ("image", lambda p: p["image"]["xxh3_128"]),
                         ("threads", lambda p: p["threads"]), ("CPU", lambda p: p["cpu"])):
            if of(before) != of(conditions):
                raise UserError(f"the baseline has other {name} ({of(before)}, now {of(conditions)}): {RENEW}")
    for name in (arm, RULER):
        if not arms.get(name, {}).get("end_to_end"):
            raise UserError(f"the baseline has no {name}: {RENEW}")
    times = [sample for stages in arms.values() for stage in STAGES for sample in stages.get(stage, [])]
    if not all(0 < sample < math.inf for sample in times):
        raise ValueError("a time that is none")
    _since(baseline)


def check_same_ruler(baseline, torch):
    """Raise UserError unless the baseline's ruler ran on this version of torch."""
    for version in (row.provenance["versions"].get("torch") for row in baseline if row.arm == RULER):
        if version != torch:
            raise UserError(f"the baseline's {RULER} ran on torch {version}, now {torch}: {RENEW}")


def comparable_baseline(options, arm, case, conditions):
    """Rows of the stored baseline of this machine and case, looked at before anything is measured; UserError."""
    # takes seconds: asked last where it can be
    ruler = functools.cache(lambda: ruler_facts(options.sources, case.device))
    device = ruler()["device_name"] if case.device == "gpu" else None
    path = Path(options.out) / machine_name(conditions, device) / case.slug / BASELINE
    rows = read_baseline(path)
    try:
        check_same_conditions(rows, arm, case, conditions)
        check_same_ruler(rows, ruler()["torch"])
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(f"{path} is damaged ({type(e).__name__}: {e}): {RENEW_OR_RESTORE}") from None
    return rows


def _since(baseline):
    """When and from which commit a baseline is."""
    conditions = baseline[0].provenance
    return f"baseline of {conditions['time']}, git {conditions['git']['sha']}"


def update(options, arm, argv, console):
    """Measure the arm twice and the ruler, store them as the baseline; returns what `regress` does."""
    specs = {**ARMS, AGAIN: replace(ARMS[arm], name=AGAIN)}
    rows, _ = measured(replace(options, arms=(arm, RULER, AGAIN)), argv, specs=specs, narrow=narrow_to_ruler)
    if interrupted(rows):
        return INTERRUPTED, "interrupted: no baseline stored", []
    reason = why_invalid(rows)
    if reason:
        raise UserError(f"no baseline stored: {reason}")
    path = folder_of(options.out, rows) / BASELINE
    write_rows(path, rows)
    console.print(conditions_line(rows), stopped_line([rows]), sep="\n", soft_wrap=True)
    return 0, f"baseline stored: {path}", []


def outcome(verdicts):
    """(exit status, one line) of verdicts against the baseline."""
    slower_stages = slower(verdicts)
    if slower_stages:
        changes = {verdict.stage: verdict.change for verdict in verdicts}
        texts = [f"{stage} {100 * changes[stage]:+.1f} %" for stage in slower_stages]
        return REGRESSION, f"regression: {', '.join(texts)}"
    undecided = [verdict for verdict in verdicts if verdict.verdict in ("ambiguous", "insufficient", "invalid")]
    if undecided:
        stages = ", ".join(f"{verdict.stage} {verdict.verdict}" for verdict in undecided)
        return CANNOT_TELL, f"cannot tell: {undecided[0].reason or stages}"
    return 0, "no regression"


def regress(options, impl, renew, argv, console):
    """Measure, print the table; returns (exit status, the last line to print, verdicts). UserError: cannot tell.

    options: a RunOptions, whose arms become paddle-`impl` and the ruler; renew: store a new baseline instead.
    """
    arm = f"paddle-{impl}"
    check_writable(options.out)
    for name in (arm, RULER):
        reason = missing_source(ARMS[name], options)
        if reason:
            raise UserError(f"{name}: {reason}")
    if renew:
        return update(options, arm, argv, console)
    if not any(Path(options.out).rglob(BASELINE)):
        raise UserError(f"no {BASELINE} below {options.out}: store one with UPDATE=1 on a version known to be good")
    baseline = []

    def check_baseline(case, conditions):
        baseline[:] = baseline or comparable_baseline(options, arm, case, conditions)

    def measure():
        return measured(replace(options, arms=(arm, RULER)), argv, narrow=narrow_to_ruler, before=check_baseline)[0]

    verdicts, runs = decided(measure, lambda rows: judge_stored(arm, baseline, rows))
    console.print(conditions_line(runs[0]), verdict_table(verdicts), stopped_line(runs),
                  _since(baseline), sep="\n", soft_wrap=True)
    if any(map(interrupted, runs)):
        return INTERRUPTED, "interrupted: cannot tell", verdicts
    return *outcome(verdicts), verdicts


def report_outcome(judge, console, path=""):
    """The exit status of judge(), which returns what `regress` does: its line printed last, all of it in file `path`.

    Whatever goes wrong is "cannot tell", never the status of a regression.
    """
    try:
        status, line, verdicts = judge()
    except UserError as e:
        status, line, verdicts = CANNOT_TELL, f"cannot tell: {e}", []
    except Exception as e:
        traceback.print_exc()
        status, line, verdicts = CANNOT_TELL, one_line(f"cannot tell: {type(e).__name__}: {e}"), []
    if path:
        with atomic_file(path, "w") as f:
            json.dump({"schema": VERDICT_SCHEMA, "status": status, "line": line,
                       "verdicts": [asdict(verdict) for verdict in verdicts]}, f, indent=1)
            f.write("\n")
    console.print(line, soft_wrap=True)
    return status
