"""Sampling, kept caches and packed weights through the fused graphs on a GPU, where prompts and single steps take
different kernels."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from core.placement import Placement
from infer.cache import KvCache
from infer.sampling_parameters import Sampling
from tests.gpu.kernels import ROOT, has_gpu
from tests.sampling_reference import check_run

PLACEMENT = Placement("gpu")
LIMIT = 1e-2  # ‖difference‖ / ‖logits‖ of two float16 computations
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


def export(folder, preset, stored_as="float32"):
    """Export fused graphs of a random checkpoint, stored as named, in the device's type; returns their folder."""
    dtype = "float16" if PLACEMENT.on_gpu else "float32"
    for command in (["export.synthetic", "--preset", preset, "--dtype", stored_as, folder / "checkpoint"],
                    ["export", "all", folder / "checkpoint", folder / "exported", "--dtype", dtype]):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=os.environ, check=True)
    return folder / "exported"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Fused graphs of a random tiny checkpoint on the device."""
    from infer.engine import Engine

    return Engine(export(tmp_path_factory.mktemp("tiny"), "tiny"), PLACEMENT)


@pytest.fixture(scope="module")
def packed_and_plain(tmp_path_factory):
    """Engines on the same graphs, whose widths and values can be packed: the first one packs."""
    from infer.engine import Engine
    from ops import formats

    exported = export(tmp_path_factory.mktemp("small"), "small", "float16")
    engines = Engine(exported, PLACEMENT), Engine(exported, PLACEMENT, "float16")
    usable = [format.name for format in formats.packed("float16") if format.is_usable(engines[0].config, PLACEMENT)]
    if not usable:
        pytest.skip("no kernels for packed weights on this card, or left out by CUDA_ARCHS")
    assert [engine.weights for engine in engines] == [usable[0], "float16"]
    return engines


def prompt(length, seed):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


@pytest.mark.parametrize("batch", [1, 3, 8, 11])
def test_sampled_tokens_follow_from_the_logits(engine, batch):
    prompts = [prompt(5 + 7 * row, row) for row in range(batch)]
    kinds = [Sampling(1.0, seed=5), Sampling(0.8, 0.9, repetition_penalty=1.3, min_new_tokens=9, seed=2**40 + 1),
             Sampling(repetition_penalty=2.0), Sampling(1.5, top_k=20, seed=9)]
    check_run(engine, prompts, [kinds[row % 4] for row in range(batch)], 300, 24)


def test_same_seed_same_tokens(engine):
    prompts = [prompt(20, 1), prompt(20, 1)]
    first, second = (engine.generate(prompts, max_new_tokens=60, sampling=[Sampling(1.0, seed=s) for s in (3, 4)])
                     for _ in range(2))
    assert first == second and first[0] != first[1]


def test_greedy_rows_are_those_without_sampling(engine):
    prompts = [prompt(20, 2), prompt(33, 3)]
    plain = engine.generate(prompts, max_new_tokens=20)
    assert engine.generate(prompts, max_new_tokens=20, sampling=[Sampling(), Sampling(1.0, seed=1)])[0] == plain[0]
    assert engine.generate(prompts, max_new_tokens=20, sampling=[Sampling(), Sampling()]) == plain


@pytest.mark.parametrize("lengths", [(40, 15), (40, 1), (300, 257), (2100, 200)])
def test_a_kept_cache_gives_the_logits_of_a_whole_prefill(engine, lengths):
    first, new = prompt(lengths[0], 4), prompt(lengths[1], 5)
    cache = KvCache()
    answer = [token for tokens in engine.start([first], max_new_tokens=9, cache=cache).stream() for token in tokens]
    said = list(itertools.takewhile(lambda token: token < 256, answer))  # no special token, such as <img>, of its own
    second = [*first, *said, *new]
    kept = engine.start([second], max_new_tokens=4, cache=cache)
    kept.prefill()
    logits, reused = kept.logits(), kept.reused
    whole = engine.start([second], max_new_tokens=4)
    whole.prefill()
    assert reused == len(first) + min(len(said), 8)  # the last token chosen was never fed
    assert np.linalg.norm(logits - whole.logits()) <= LIMIT * np.linalg.norm(whole.logits())


def test_pictures_of_earlier_turns_stay_in_the_cache(engine):
    pixels = np.random.default_rng(6).standard_normal([2, 1, 3, 448, 448]).astype(np.float32)
    pictures = [engine.vision(each) for each in pixels]
    span = [480, *[0] * 256, 481]  # <img> … </img> of the tiny preset
    first, cache = [*prompt(9, 7), *span, *prompt(12, 8)], KvCache()
    list(engine.start([first], pictures[:1], 4, cache=cache).stream())
    second = [*first, *prompt(5, 9), *span, *prompt(6, 10)]
    kept = engine.start([second], pictures, 4, cache=cache)
    kept.prefill()
    logits, reused = kept.logits(), kept.reused
    whole = engine.start([second], pictures, 4)
    whole.prefill()
    assert reused == len(first)
    assert np.linalg.norm(logits - whole.logits()) <= LIMIT * np.linalg.norm(whole.logits())


def greedy(engine, prompts, new):
    """(tokens, logits [B, new, V]) of a greedy generation."""
    run = engine.start(prompts, max_new_tokens=new)
    run.prefill()
    logits = [run.logits()[:, -1]]
    for _ in range(new - 1):
        run.step()
        logits.append(run.logits()[:, -1])
    return run.tokens(), np.stack(logits, 1)


@pytest.mark.parametrize("batch, longest", [(1, 5), (1, 300), (3, 70), (8, 20), (11, 20), (2, 1500)])
def test_packed_weights_give_the_same_logits_and_tokens(packed_and_plain, batch, longest):
    new = 24
    prompts = [prompt(max(1, longest - 9 * row), row) for row in range(batch)]
    (ours, our_logits), (plain, plain_logits) = (greedy(engine, prompts, new) for engine in packed_and_plain)
    for row in range(batch):
        same = next((i for i in range(new) if ours[row][i] != plain[row][i]), new)
        ours_until, plain_until = (logits[row, :same + 1] for logits in (our_logits, plain_logits))
        assert np.linalg.norm(ours_until - plain_until) <= LIMIT * np.linalg.norm(plain_until)
        if same < new:  # rounding decided between two tokens, and they go on from different texts
            second, first = np.sort(plain_until[-1])[-2:]
            assert first - second <= 2 * np.abs(ours_until[-1] - plain_until[-1]).max()


def test_weights_of_more_bits_are_left_as_they_are(tmp_path):
    from infer.engine import Engine

    made = Engine(export(tmp_path, "small"), PLACEMENT)
    assert made.weights == made.dtype
    assert all(len(row) == 4 for row in made.generate([prompt(9, 1)], max_new_tokens=4))


def test_matrices_of_other_widths_are_left_as_they_are(engine):
    assert engine.weights == engine.dtype
