"""A slowdown planted into the real CPU pipeline is found in its stage: worker processes, rounds, verdict, re-run.

The outcome depends on the machine's time, so this runs on request only, alone and on an idle machine:

    IDLE_MACHINE=1 python -m pytest tests/test_bench_planted_cpu.py
"""

import os
from dataclasses import replace

import pytest

from bench.arms import ARMS
from bench.compare import AGAIN, BASE, HEAD, ROUNDS, narrow_pair
from bench.run import measured
from bench.verdict import PARTS, decided, paired, samples_of, why_invalid
from tests.bench_options import run_options

SHARE = 0.05
SECONDS = 30   # of rounds; a pass of the tiny preset takes milliseconds


@pytest.mark.skipif(not os.environ.get("IDLE_MACHINE"), reason="times a real run: IDLE_MACHINE=1 on an idle machine")
def test_planted_slowdown_is_found_in_its_stage(exported_tiny, tmp_path):
    spec = replace(ARMS["paddle-fused"], target="tests.bench_slow_arm:SlowArm")
    specs = {name: replace(spec, name=name, options={"share": share})
             for name, share in ((BASE, 0.0), (HEAD, SHARE), (AGAIN, 0.0))}
    options = run_options(checkpoint=exported_tiny.parent / "checkpoint", out=str(tmp_path), arms=(BASE, HEAD, AGAIN),
                          preset="tiny", new_tokens=2, exported_fused=exported_tiny, budget=SECONDS, rounds=ROUNDS,
                          cold=0, threads=1)
    busy = []

    def measure():
        rows, _ = measured(options, ["test"], specs=specs, narrow=narrow_pair)
        busy.append(why_invalid(rows))
        return rows

    def judge(rows):
        arms = samples_of(rows)
        return [paired(part, *(arms[name][part] for name in (BASE, HEAD, AGAIN))) for part in PARTS]

    verdicts, _ = decided(measure, judge)
    if any(busy):
        pytest.skip(f"no verdict on this machine now: {next(filter(None, busy))}")
    assert [verdict.stage for verdict in verdicts if verdict.verdict == "slower"] == ["vision"], verdicts
