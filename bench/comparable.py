"""What a stored baseline may be compared with: looked at in seconds, before anything is measured."""

import json
import math
import os
import subprocess
from functools import cache
from pathlib import Path

from bench.arms import QUANTISED
from bench.contest import YARDSTICK
from bench.git import ROOT
from bench.plan import PLANS
from bench.provenance import machine_name
from bench.schema import BENCHMARK, OTHERS, SCHEMA, read_rows
from bench.verdict import best_times, knows_steps, quiet_rounds, rows_of
from bench.yardstick import YARDSTICKS
from core.errors import UserError
from infer.formats import AUTO
from infer.graph import Manifest

RENEW = "store it again with UPDATE=1"
COMPUTING = ("python", "numpy", "Pillow", "paddlepaddle", "paddlepaddle-gpu")   # wheels that an arm's times come from
ANSWER_SECONDS = 60
ASK_VERSIONS = "import json; from bench.worker import installed_versions; print(json.dumps(installed_versions()))"


@cache
def _versions_of(python, added):
    environment = {**os.environ, **dict(added)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    try:
        done = subprocess.run([python, "-P", "-c", ASK_VERSIONS], env=environment, capture_output=True, text=True,
                              errors="replace", timeout=ANSWER_SECONDS)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as e:
        fault = str(e)
    except ValueError:
        fault = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]
    raise UserError(f"{python} cannot run ({fault}): give PADDLE_PYTHON= and TORCH_PYTHON=")


def versions_of(sources, framework):
    """{wheel: version} that a framework's interpreter has, without importing any; UserError when it does not run."""
    return _versions_of(sources.python[framework], tuple(sources.environment.get(framework, {}).items()))


def exported_weights(folder):
    """The hash of the weights that an exported folder was made from: a run compares it with the checkpoint's own."""
    path = Path(folder) / "language" / "manifest.json"
    try:
        return json.loads(path.read_bytes())["checkpoint"]["hash"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no manifest of an export: delete {path.parent}, then run make again") from None


def baseline_name(weights):
    """The file of a baseline: matrices that are rounded have one of their own, by their format."""
    return f"baseline-{weights}.jsonl" if weights in QUANTISED else "baseline.jsonl"


def kept_as(weights):
    """What matrices in these formats are: "codes" where any of them are kept as such, else "numbers"."""
    return "codes" if set(weights.split("+")) & {*QUANTISED} else "numbers"


def asked_for(weights, folder):
    """What `kept_as` will say of an exported folder's matrices that are loaded with WEIGHTS=."""
    if weights != AUTO:
        return kept_as(weights)
    return "numbers" if Manifest(Path(folder) / "language").quantised is None else "codes"


def facts(conditions, versions, yardstick, weights, kept):
    """{name: value} of what must be the same: of a run's conditions, its arm's wheels and its yardstick's one, the hash
    of the weights, and what its matrices are kept as."""
    gpu = conditions["gpu"] if isinstance(conditions["gpu"], dict) else {}
    return {"weights": weights, "matrices": kept, "image": conditions["image"]["xxh3_128"],
            "threads": conditions["threads"], "CPU": conditions["cpu"], "host": conditions["host"],
            "driver": gpu.get("driver"), "power limit": gpu.get("power_limit_w"),
            **{name: versions.get(name) for name in COMPUTING}, "wheel of the yardstick": yardstick}


def path_of(out, case, conditions, weights):
    """Where the baseline of this machine and case is stored; UserError where the card cannot be told."""
    gpu = conditions["gpu"]
    if case.device == "gpu" and not isinstance(gpu, dict):
        raise UserError(f"which card this is cannot be told: {gpu}")
    machine = machine_name(conditions, gpu["name"] if case.device == "gpu" else None)
    return Path(out) / machine / case.slug / baseline_name(weights)


def read_baseline(path):
    """Rows of a stored baseline; UserError when it is damaged or of another version than this one."""
    if not path.is_file():
        others = sorted(other.parent.name for other in path.parents[1].glob(f"*/{path.name}"))
        known = f" (this machine has {', '.join(others)})" if others else ""
        raise UserError(f"no baseline at {path}{known}: store one with UPDATE=1 on a version that is known to be good")
    rows = read_rows(path, RENEW)
    for row in rows:
        for name, stored, current in (("schema", row.schema, SCHEMA), ("benchmark version", row.benchmark, BENCHMARK)):
            if stored != current:
                raise UserError(f"{path} is of {name} {stored}, this version measures {current}: {RENEW}")
    return rows


def check_comparable(rows, arm, case, now):
    """Raise UserError unless `rows` are a baseline of the arm and case under the same `facts` as `now`."""
    arms = {}
    for row in rows:
        if row.case != case:
            raise UserError(f"the baseline is of case {row.case.slug}, not {case.slug}: {RENEW}")
        least = 0 if row.stage == OTHERS else math.ulp(0)
        if not all(least <= sample < math.inf for sample in row.samples):
            raise ValueError("a time that is none")
        arms.setdefault(row.arm, {})[row.stage] = row
    if arm not in arms or not arms[arm]["end_to_end"].samples:
        raise UserError(f"the baseline has no {arm}: {RENEW}")
    (yardstick,) = {tuple(row.provenance["versions"].values()) for row in arms[YARDSTICK].values()}
    for row in arms[arm].values():
        before = facts(row.provenance, row.provenance["versions"], *yardstick, row.provenance["checkpoint"]["hash"],
                       kept_as(row.provenance["work"].get("weights", case.dtype)))
        other = [f"{name} ({before[name]}, now {now[name]})" for name in now if before[name] != now[name]]
        if other:
            raise UserError(f"the baseline has other {', '.join(other)}: {RENEW}")


def comparable_baseline(options, arm, source, case, conditions):
    """(folder, rows) of the stored baseline of this machine and case; UserError unless a run of `arm` may be compared.

    source: the exported folder of the arm; conditions: what bench.provenance.collect says now.
    """
    path = path_of(options.out, case, conditions, options.weights)
    rows = read_baseline(path)
    yardstick = YARDSTICKS[case.device]
    now = facts(conditions, versions_of(options.sources, "paddle"),
                versions_of(options.sources, yardstick.framework).get(yardstick.wheel), exported_weights(source),
                asked_for(options.weights, source))
    try:
        check_comparable(rows, arm, case, now)
        stages = rows_of(rows, arm)
        quiet_rounds(rows, arm, best_times(rows), PLANS[case.device].quiet, knows_steps(stages))
        since(rows)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise UserError(f"{path} is damaged ({type(e).__name__}: {e}): restore the file, or {RENEW}") from None
    return path.parent, rows


def since(rows):
    """When and from which commit a baseline is."""
    conditions = rows[0].provenance
    return f"baseline of {conditions['time']}, git {conditions['git']['sha']}"
