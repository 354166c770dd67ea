"""Rows of a simulated run for the tests of verdicts: an arm's launches and the yardstick around their rounds."""

import numpy as np

from bench.contest import YARDSTICK
from bench.schema import DEVICE_STAGES, OTHERS, Case, Row
from bench.verdict import PARTS

CASE = Case("small", "float32", "cpu", 1, 316, 32)
TYPICAL = {"preprocess": 6.0, "vision": 180.0, "prefill": 55.0, "token": 2.2}   # ms
STEPS = CASE.new_tokens - 1
CONDITIONS = {"cpu": "A CPU", "cores": 2, "threads": 2, "host": "01234567", "platform": "Linux", "memory_mib": 1000,
              "load_average": 0.0, "gpu": "not available: none", "checkpoint": {"hash": "x", "synthetic": True},
              "image": {"xxh3_128": "y"}, "time": "2026-01-01T00:00:00+00:00", "git": {"sha": "0" * 40},
              "versions": {"python": "3.11", "numpy": "2", "Pillow": "1", "paddlepaddle": "2.6"},
              "rounds": {"asked": 8, "done": 160, "stopped": "rounds", "interrupted": False}}


def stages_of(rng, launches, rounds, slower, between, within, device):
    """{stage: [launches] of samples}: `device` [launches, rounds] slows everything."""
    luck = np.exp(rng.normal(0, between, (launches, 1)))
    stages = {}
    for stage, typical in TYPICAL.items():
        each = STEPS if stage == "token" else 1
        noise = np.exp(np.abs(rng.normal(0, within, (launches, rounds, each))))
        stages[stage] = typical * slower.get(stage, 1.0) * (luck * device)[..., None] * noise
    steps = stages["token"]
    stages |= {"decode": steps.sum(2, keepdims=True), "token": steps.mean(2, keepdims=True),
               "least_step": steps.min(2, keepdims=True)}
    stages["ttft"] = sum(stages[part] for part in PARTS[:3])
    stages["end_to_end"] = stages["ttft"] + stages["decode"]
    return stages


def as_row(arm, stage, samples, case, conditions, **changes):
    """samples: an array [launches, …]."""
    return Row(**{"arm": arm, "stage": stage, "status": "ok", "reason": "", "samples": samples.ravel().tolist(),
                  "case": case, "provenance": conditions, "launches": [samples[0].size] * len(samples), **changes})


def simulated(seed, launches=20, rounds=8, slower=None, between=0.01, within=0.02, device=1.0, arm="paddle-fused",
              others=0.0, case=CASE, conditions=None):
    """Rows of one arm and the yardstick; slower: {stage: factor}; device: how much slower everything is, a number or an
    array [launches, rounds]; others: cores kept busy by other programs, alike; conditions: beside CONDITIONS."""
    rng = np.random.default_rng(seed)
    device, others = (np.broadcast_to(np.asarray(value, float), (launches, rounds)) for value in (device, others))
    conditions = {**CONDITIONS, **(conditions or {})}
    of_yardstick = {**conditions, "versions": {"numpy": "2"}}
    stages = stages_of(rng, launches, rounds, slower or {}, between, within, device)
    rows = [as_row(arm, stage, samples, case, conditions) for stage, samples in stages.items()]
    for stage, typical in zip(DEVICE_STAGES, (2.2, 4.3), strict=True):
        times = typical * device[..., None] * np.exp(np.abs(rng.normal(0, 0.01, (launches, rounds, 16))))
        rows.append(as_row(YARDSTICK, stage, times, case, of_yardstick))
    return [*rows, as_row(YARDSTICK, OTHERS, others, case, of_yardstick)]
