"""Known steps: changes of a stage that somebody has looked at and accepts, with the reason, in a file of the results.

steps.json is a list of {"date", "sha", "arm", "stage", "change", "reason"}; `change` is relative, 0.05: 5 % longer. A
baseline that is older than a step is compared as if it had taken it, and the history says why the step is there.
"""

import json
import math
from datetime import datetime
from pathlib import Path

from core.errors import UserError
from core.files import atomic_file
from core.text import escaped, escaped_texts

FILE = "steps.json"
TEXTS = ("date", "sha", "arm", "stage", "reason")


def read_steps(folder):
    """The steps of a machine and case, in their order; UserError where the file holds something else."""
    path = Path(folder) / FILE
    if not path.is_file():
        return []
    try:
        steps = json.loads(path.read_bytes())
        for step in steps:
            datetime.fromisoformat(step["date"])
            if not all(isinstance(step[name], str) for name in TEXTS) or not -1 < float(step["change"]) < math.inf:
                raise ValueError("is no step")
    except (ValueError, TypeError, KeyError) as e:
        raise UserError(f"{path} is no list of accepted steps ({type(e).__name__}: {e}): git checkout HEAD -- {path}, "
                        "or delete it") from None
    return escaped_texts(steps)


def accepted(steps, arm, since):
    """{stage: accepted relative change} of an arm by the steps after the moment `since`, an ISO 8601 text."""
    factors = {}
    for step in steps:
        if step["arm"] == arm and datetime.fromisoformat(step["date"]) > datetime.fromisoformat(since):
            factors[step["stage"]] = factors.get(step["stage"], 1.0) * (1 + step["change"])
    return {stage: factor - 1 for stage, factor in factors.items()}


def accept(folder, rows, verdicts, reason):
    """Add a step per verdict of the run that made `rows`; returns the file's path."""
    conditions, path = rows[0].provenance, Path(folder) / FILE
    steps = read_steps(folder) + [
        {"date": conditions["time"], "sha": conditions["git"]["sha"] or "", "arm": rows[0].arm,
         "stage": verdict.stage, "change": round(verdict.change, 4), "reason": escaped(reason)} for verdict in verdicts]
    with atomic_file(path, "w") as f:
        json.dump(steps, f, indent=1)
        f.write("\n")
    return path
