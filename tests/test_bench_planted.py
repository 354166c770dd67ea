"""A planted slowdown of 5 % is found, and in the right stage; workers of the same code are no regression."""

import numpy as np
import pytest

from bench.compare import AGAIN, BASE, BUDGET, HEAD, judge_pair, narrow_pair
from bench.contest import Entry
from bench.schema import Case, Row
from bench.stopping import CHECK_EVERY
from bench.verdict import STAGES, decided, slower
from tests.bench_noise import PARTS, Noise

TRIALS, SHARE = 20, 0.05
CASE = Case("small", "float32", "cpu", 1, 316, 32)
CONDITIONS = {"cores": 2, "rounds": {"interrupted": False}}


@pytest.fixture(scope="module")
def noise():
    return Noise()


def simulated_run(noise, rng, part, share):
    """Rows of one comparison: as many rounds as its stopping rule and its default budget leave."""
    most = int(BUDGET / (3 * noise.pass_seconds))
    workers = dict(zip((BASE, HEAD, AGAIN), noise.passes(rng, most, slow_part=part, share=share), strict=True))

    def entries(rounds):
        return [Entry(name=name, samples={stage: values[:rounds] for stage, values in stages.items()})
                for name, stages in workers.items()]
    made = next((rounds for rounds in range(CHECK_EVERY, most + 1, CHECK_EVERY * 4) if narrow_pair(entries(rounds))),
                most)
    return [Row(entry.name, stage, "ok", "", entry.samples[stage], CASE, CONDITIONS)
            for entry in entries(made) for stage in STAGES]


def trial(noise, seed, part=None, share=0.0):
    """Stages called slower in a comparison with its re-run."""
    rng = np.random.default_rng(seed)
    verdicts, _ = decided(lambda: simulated_run(noise, rng, part, share), judge_pair)
    return slower(verdicts)


@pytest.mark.parametrize("part", PARTS)
def test_planted_slowdown_is_found_in_its_stage(noise, part):
    found = [trial(noise, seed, part, SHARE) for seed in range(TRIALS)]
    right = [part in stages and not set(stages) & (set(PARTS) - {part}) for stages in found]
    assert sum(right) >= 19, found


def test_same_code_is_no_regression(noise):
    found = [trial(noise, seed) for seed in range(TRIALS)]
    assert sum(map(bool, found)) <= 1, found
