"""The table of engines over batch and length, from rows: a line per case and arm (docs/file_formats.md, sweep.csv)."""

import pandas as pd

from bench.limits import work_of
from bench.provenance import machine_name
from bench.report import arm_state, by_arm, device_name
from bench.statistics import summary
from ops import formats

COLUMNS = ("machine", "commit", "date", "preset", "dtype", "prompt_tokens", "arm", "bits", "batch", "new_tokens",
           "prefill_ms", "step_ms", "tokens_per_s", "n", "status", "reason")


def commit_of(conditions):
    """The commit that was measured, with a + behind it where files had changed; empty where it is not known."""
    git = conditions.get("git", {})
    return f"{git.get('sha') or ''}{'+' * bool(git.get('dirty'))}"


def bits_of(stages):
    """Bits of a weight of the language model's matrices, as the arm keeps them."""
    work = work_of(stages)
    return work.get("bits") or formats.of_both(work.get("weights", stages["end_to_end"].case.dtype))[0].bits


def frame(rows):
    """A line per case and arm, ordered by batch, new tokens and arm; figures are medians, missing where there are none.

    tokens_per_s is that of decoding: rows of the batch over the time of a step.
    """
    cases, lines = {}, []
    for row in rows:
        cases.setdefault(row.case, []).append(row)
    for case in sorted(cases, key=lambda case: (case.batch, case.new_tokens)):
        for arm, stages in by_arm(cases[case]).items():
            conditions, (status, reason) = stages["end_to_end"].provenance, arm_state(stages)
            prefill, step = (summary(stages[stage].samples) if status == "ok" and stage in stages else None
                             for stage in ("prefill", "token"))
            lines.append({
                "machine": machine_name(conditions, device_name(rows)), "commit": commit_of(conditions),
                "date": conditions.get("time"), "preset": case.preset, "dtype": case.dtype,
                "prompt_tokens": case.prompt_tokens, "arm": arm, "bits": bits_of(stages), "batch": case.batch,
                "new_tokens": case.new_tokens, "prefill_ms": prefill and prefill["median"],
                "step_ms": step and step["median"], "tokens_per_s": step and case.batch / step["median"] * 1e3,
                "n": len(stages["end_to_end"].samples), "status": status, "reason": reason})
    return pd.DataFrame(lines, columns=COLUMNS)
