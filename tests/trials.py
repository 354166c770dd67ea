"""Trials of `make regress` on a real machine: runs of the same code one after the other, each judged against the one
before, or every second one slowed down in a stage. An hour on a CPU for 20 pairs, so no test.

    python -m tests.trials LOG --checkpoint … --exported-fused … [--pairs 20] [--stage decode --share 0.05]

LOG gets a line per pair, after each: {"time", "machine", "planted", "seconds" of the run, "status", "verdicts"}. A log
that is there goes on. At the end the pairs in it are counted.
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
from bench.verdict import against_stored, best_times, run_line
from core.errors import ArgumentParser, run_cli

ARM = "paddle-fused"


def parse():
    parser = ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("log")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0, help="begin no run after this time (0: none)")
    parser.add_argument("--stage", choices=("vision", "decode"), default="decode")
    parser.add_argument("--share", type=float, default=0.0, help="how much longer the stage takes in every second run")
    add(parser, CaseOptions, device="auto")
    Sources.add(parser, ["exported_fused"], required=True)
    add(parser, Limits, "launches", "rounds", "deadline", rounds=0)
    add(parser, RunOptions, "out", out="/tmp")
    return parser.parse_args()


def trial(options, before, stage, share):
    """(rows, line of the log) of one run, judged against the rows of the one before; no line without those."""
    slow = replace(ARMS[ARM], target="tests.bench_slow_arm:SlowArm", options={"stage": stage, "share": share})
    begin = time.monotonic()
    rows = measure(options, ["python", "-m", "tests.trials"], best_times(before) if before else None,
                   {**ARMS, ARM: slow})
    seconds = round(time.monotonic() - begin, 1)
    if not before:
        return rows, None
    verdicts = against_stored(ARM, before, rows)
    status, line = outcome(verdicts)
    return rows, {"time": rows[0].provenance["time"], "machine": run_line(rows), "planted": {stage: share},
                  "seconds": seconds, "status": status, "line": line, "verdicts": [asdict(each) for each in verdicts]}


def counted(path):
    """What the lines of a log say, by what was planted: texts."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    counts = Counter((json.dumps(line["planted"]), ", ".join(f"{verdict['stage']} {verdict['verdict']}" for verdict in
                      line["verdicts"] if verdict["verdict"] != "same") or "all the same") for line in lines)
    return [f"{count} x planted {planted}: {found}" for (planted, found), count in sorted(counts.items())]


def main():
    args = parse()
    options = judged(replace(read(RunOptions, args, sources=Sources.read(args)), arms=(ARM,)))
    rows, begin, pairs = None, time.monotonic(), 0
    while pairs < args.pairs and not (args.seconds and time.monotonic() - begin > args.seconds):
        plain, _ = (rows, None) if rows and not args.share else trial(options, None, args.stage, 0.0)
        rows, line = trial(options, plain, args.stage, args.share)
        pairs += 1
        with open(args.log, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
    print("\n".join(counted(args.log)))
    return 0


if __name__ == "__main__":
    run_cli(main)
