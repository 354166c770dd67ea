"""Simulated passes with the noise of a real run: `make bench` on an idle machine with 2 cores, its rows kept as
tests/data/noise_2_cores.jsonl; see docs/statistics.md."""

from pathlib import Path

import numpy as np

from bench.schema import read_rows

MEASURED = Path(__file__).parent / "data" / "noise_2_cores.jsonl"
ARMS = ("torch-eager", "torch-sdpa", "paddle-native", "paddle-fused")   # the order of a round
PARTS = ("preprocess", "vision", "prefill", "decode")


class Noise:
    """What rounds of three neighbouring workers of paddle-fused look like.

    A simulated round is one of the measured rounds: the deviations of three arms that ran one after the other, in
    random order, all stages of a pass together. What the arms of a round share (drift, other programs, stolen time)
    they share here too; what they do not share is larger than between workers of one arm, which is the safe side.
    """

    def __init__(self, rows=None):
        rows = [row for row in rows or read_rows(MEASURED) if row.stage in PARTS]
        samples = {(row.arm, row.stage): np.array(row.samples) for row in rows}
        self.pass_seconds_of = {arm: sum(float(np.median(samples[arm, part])) for part in PARTS) / 1e3 for arm in ARMS}
        self.typical = {part: float(np.median(samples[ARMS[-1], part])) for part in PARTS}
        self.deviations = np.array([[np.log(samples[arm, part] / np.median(samples[arm, part])) for part in PARTS]
                                    for arm in ARMS])   # [arms, parts, rounds]

    @property
    def pass_seconds(self):
        """What one pass of the simulated arm takes."""
        return self.pass_seconds_of[ARMS[-1]]

    def passes(self, rng, rounds, workers=3, slow_part=None, share=0.0, slow_worker=1):
        """[{stage: [ms] * rounds}] of the workers; `slow_worker` takes `share` longer in `slow_part`."""
        arms_count, _, measured = self.deviations.shape
        first = rng.integers(arms_count - workers + 1, size=rounds)
        arms = rng.permuted(first[:, None] + np.arange(workers), axis=1)
        noise = self.deviations[arms, :, rng.integers(measured, size=rounds)[:, None]]   # [rounds, workers, parts]
        workers_stages = []
        for worker in range(workers):
            stages = {}
            for i, part in enumerate(PARTS):
                slower = 1 + share if worker == slow_worker and part == slow_part else 1
                stages[part] = slower * self.typical[part] * np.exp(noise[:, worker, i])
            stages["ttft"] = stages["preprocess"] + stages["vision"] + stages["prefill"]
            stages["end_to_end"] = stages["ttft"] + stages["decode"]
            workers_stages.append({stage: values.tolist() for stage, values in stages.items()})
        return workers_stages
