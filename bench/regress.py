"""This version against the stored baseline of the same machine and case: did a stage become slower?

The two were measured at different times, so a yardstick of the device's own runs around every round
(bench/yardstick.py): rounds count where the device was as fast as it was for the baseline.
"""

import json
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from bench import provenance
from bench.arms import ARMS, fused
from bench.comparable import baseline_name, comparable_baseline, since
from bench.plan import PLANS, judged
from bench.results import check_writable, folder_of
from bench.run import case_of, measured
from bench.schema import write_rows
from bench.session import missing_source, read_inputs, watched_gpu
from bench.steps import accept, accepted, read_steps
from bench.verdict import against_stored, best_times, interrupted, run_line, slower, verdict_table, why_invalid
from bench.yardstick import Quiet
from core.errors import UserError
from core.files import atomic_file
from core.text import one_line

REGRESSION, CANNOT_TELL, INTERRUPTED = 1, 2, 130   # exit statuses
VERDICT_SCHEMA = 2                        # of the file that --verdict names


def measure(options, argv, best=None, specs=ARMS):
    """Rows of the launches that a verdict rests on, and of the yardstick; best: its best times for the baseline."""
    quiet = Quiet(PLANS[options.case.device].quiet, best)
    return measured(options, argv, specs=specs, for_verdict=True, quiet=quiet)[0]


def stored_baseline(options, arm, argv):
    """(folder, rows) of the baseline that this run may be compared with; UserError, in seconds, where it may not."""
    if not any(Path(options.out).rglob(name := baseline_name(options.weights))):
        raise UserError(f"no {name} below {options.out}: store one with UPDATE=1 on a version known to be good")
    _, _, ids = read_inputs(options)
    case = case_of(options, ids)
    conditions = provenance.collect(argv, options.sources.cpu_threads, {}, options.case.photograph,
                                    watched_gpu(options))
    return comparable_baseline(options, arm, options.sources.folders[ARMS[arm].source], case, conditions)


def update(options, argv, console):
    """Measure the arm and store it as the baseline; returns what `regress` does."""
    rows = measure(options, argv)
    if interrupted(rows):
        return INTERRUPTED, "interrupted: no baseline stored", []
    if reason := why_invalid(rows):
        raise UserError(f"no baseline stored: {reason}")
    path = folder_of(options.out, rows) / baseline_name(options.weights)
    write_rows(path, rows)
    console.print(run_line(rows), soft_wrap=True)
    return 0, f"baseline stored: {path}", []


def outcome(verdicts):
    """(exit status, one line) of verdicts against the baseline."""
    changes = {verdict.stage: verdict.change for verdict in verdicts}
    if stages := slower(verdicts):
        return REGRESSION, "regression: " + ", ".join(f"{stage} {100 * changes[stage]:+.1f} %" for stage in stages)
    undecided = [verdict for verdict in verdicts if verdict.verdict in ("ambiguous", "insufficient", "invalid")]
    if undecided:
        stages = ", ".join(f"{verdict.stage} {verdict.verdict}" for verdict in undecided)
        return CANNOT_TELL, f"cannot tell: {undecided[0].reason or stages}"
    return 0, "no regression"


def regress(options, impl, renew, reason, argv, console):
    """Measure, print the table; returns (exit status, the last line to print, verdicts). UserError: cannot tell.

    options: a RunOptions, whose arm becomes that of `impl` and its weights; renew: store a new baseline instead;
    reason: why what this run finds slower is accepted, "" where it is not.
    """
    arm = fused(options.weights).name if impl == "fused" else f"paddle-{impl}"
    check_writable(options.out)
    if missing := missing_source(ARMS[arm], options):
        raise UserError(f"{arm}: {missing}")
    options = replace(options, arms=(arm,))
    if renew:
        return update(judged(options, baseline=True), argv, console)
    folder, baseline = stored_baseline(options, arm, argv)
    known = accepted(read_steps(folder), arm, baseline[0].provenance["time"])
    rows = measure(judged(options), argv, best_times(baseline))
    verdicts = against_stored(arm, baseline, rows, known)
    console.print(run_line(rows), verdict_table(verdicts), since(baseline), sep="\n", soft_wrap=True)
    if interrupted(rows):
        return INTERRUPTED, "interrupted: cannot tell", verdicts
    status, line = outcome(verdicts)
    if status == REGRESSION and reason:
        path = accept(folder, rows, [verdict for verdict in verdicts if verdict.verdict == "slower"], reason)
        return 0, f"accepted in {path}: {line}", verdicts
    return status, line, verdicts


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
