"""A slowdown planted into the real CPU pipeline is found in its stage: worker processes, launches, rounds, verdict.

The outcome depends on the machine's time, so this runs on request only, alone and on an idle machine:

    IDLE_MACHINE=1 python -m pytest tests/test_bench_planted_cpu.py

tests/trials.py does the same for `make regress`, as often as asked for.
"""

import os
from dataclasses import replace

import pytest

from bench.arms import ARMS
from bench.compare import BASE, HEAD
from bench.plan import judged
from bench.run import measured
from bench.verdict import paired, slower
from tests.bench_options import run_options

SHARE = 0.1


@pytest.mark.skipif(not os.environ.get("IDLE_MACHINE"), reason="times a real run: IDLE_MACHINE=1 on an idle machine")
def test_planted_slowdown_is_found_in_its_stage(exported_tiny, tmp_path):
    spec = replace(ARMS["paddle-fused"], target="tests.bench_slow_arm:SlowArm")
    specs = {name: replace(spec, name=name, options={"stage": "vision", "share": share})
             for name, share in ((BASE, 0.0), (HEAD, SHARE))}
    options = judged(run_options(checkpoint=exported_tiny.parent / "checkpoint", out=str(tmp_path), arms=(BASE, HEAD),
                                 preset="tiny", new_tokens=2, exported_fused=exported_tiny, launches=8, rounds=20,
                                 threads=1))
    rows, _ = measured(options, ["test"], specs=specs, for_verdict=True)
    verdicts = paired(BASE, HEAD, rows)
    if verdicts[0].verdict == "invalid":
        pytest.skip(f"no verdict on this machine now: {verdicts[0].reason}")
    assert [stage for stage in slower(verdicts) if stage not in ("ttft", "end_to_end")] == ["vision"], verdicts
