"""Trials of `make regress` on a real machine: checks of the same code against a baseline, every third one slowed down
in a stage, and a new baseline after 15 of them. 50 minutes on a CPU for one baseline and its checks, so no test.

    python -m tests.trials LOG --checkpoint … --exported-fused … [--checks 30] [--stage decode] [--share 0.05]

LOG gets a line per check: {"time", "machine", "baseline" (its time), "planted", "seconds" of the check, "status",
"line", "verdicts"}. A log that is there goes on. At the end the checks in it are counted. All checks are held to one
reference, which every `make regress` makes anew: 50 s on a GPU that no check's "seconds" have in them after the first.
"""

import json
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from bench.arms import ARMS
from bench.options import CaseOptions, Limits, RunOptions, Sources, add, read
from bench.plan import judged
from bench.regress import measure, outcome
from bench.session import Session
from bench.verdict import against_stored, best_times, run_line
from core.errors import ArgumentParser, run_cli

ARM = "paddle-fused"
CHECKS = 15   # of a baseline
SLOWED = 3    # every third of them


def parse():
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("log")
    parser.add_argument("--checks", type=int, default=CHECKS)
    parser.add_argument("--seconds", type=float, default=0, help="begin no check after this time (0: none)")
    parser.add_argument("--stage", choices=("vision", "decode"), default="decode")
    parser.add_argument("--share", type=float, default=0.05, help="how much longer the stage takes where it is slowed")
    add(parser, CaseOptions, device="auto")
    Sources.add(parser, ["exported_fused"], required=True)
    add(parser, Limits, "launches", "rounds", "deadline", rounds=0)
    add(parser, RunOptions, "out", out="/tmp")
    return parser.parse_args()


def measured_slower(options, stage, share, best=None):
    """Rows of a run as `make regress` makes it, with a stage that takes `share` longer; best: as in bench.regress."""
    slow = replace(ARMS[ARM], target="tests.bench_slow_arm:SlowArm", options={"stage": stage, "share": share})
    return measure(options, ["python", "-m", "tests.trials"], best, {**ARMS, ARM: slow})


def check(options, baseline, stage, share):
    """The line of the log of a check against the rows of a baseline."""
    begin = time.monotonic()
    rows = measured_slower(options, stage, share, best_times(baseline))
    seconds = round(time.monotonic() - begin, 1)
    verdicts = against_stored(ARM, baseline, rows)
    status, line = outcome(verdicts)
    return {"time": rows[0].provenance["time"], "machine": run_line(rows),
            "baseline": baseline[0].provenance["time"], "planted": {stage: share}, "seconds": seconds,
            "status": status, "line": line, "verdicts": [asdict(each) for each in verdicts]}


def counted(path):
    """What the lines of a log say, by what was planted: texts."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    counts = Counter((json.dumps(line["planted"]), ", ".join(f"{verdict['stage']} {verdict['verdict']}" for verdict in
                      line["verdicts"] if verdict["verdict"] != "same") or "all the same") for line in lines)
    return [f"{count} x planted {planted}: {found}" for (planted, found), count in sorted(counts.items())]


def made_once(judge):
    """A Session.judge that makes the first of its judges alone."""
    made = []

    def kept(*args):
        if not made:
            made.append(judge(*args))
        return made[0]
    return kept


def main():
    args = parse()
    Session.judge = made_once(Session.judge)
    options = replace(read(RunOptions, args, sources=Sources.read(args)), arms=(ARM,))
    begin, baseline = time.monotonic(), None
    for done in range(args.checks):
        if done % CHECKS == 0:
            baseline = measured_slower(judged(options, baseline=True), args.stage, 0.0)
        if args.seconds and time.monotonic() - begin > args.seconds:
            break
        line = check(judged(options), baseline, args.stage, args.share if done % SLOWED == SLOWED - 1 else 0.0)
        with open(args.log, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
    print("\n".join(counted(args.log)))
    return 0


if __name__ == "__main__":
    run_cli(main)
