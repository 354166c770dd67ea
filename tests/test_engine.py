"""Generation on the exported graphs: batches, stop tokens, caches, and what is refused before anything runs."""

import numpy as np
import pytest

from core.errors import UserError
from infer.engine import Engine

IMAGE = 480  # <img> of the tiny preset; the closing tag follows it


@pytest.fixture(scope="module")
def engine(exported_tiny):
    return Engine(exported_tiny, "cpu")


def prompt(length, seed):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def with_image(before, after, seed):
    return [*prompt(before, seed), IMAGE, *[0] * 256, IMAGE + 1, *prompt(after, seed + 1)]


def pixels(seed, count=1):
    return np.random.default_rng(seed).standard_normal([count, 3, 448, 448]).astype(np.float32)


def test_a_batch_gives_what_each_prompt_gives_alone(engine):
    prompts = [with_image(4, 9, 1), prompt(23, 2), [*with_image(2, 3, 3), *with_image(1, 5, 4)]]
    features = engine.vision(pixels(0, 3))
    together = engine.generate(prompts, features, max_new_tokens=8)
    alone = [engine.generate([p], f, max_new_tokens=8)[0]
             for p, f in zip(prompts, (features[:1], None, features[1:]))]
    assert together == alone
    assert len(set(map(tuple, together))) == 3


def test_a_stop_token_ends_its_row_alone(engine):
    prompts = [prompt(12, 5), prompt(30, 6)]
    free = engine.generate(prompts, max_new_tokens=10)
    stop = next(t for t in free[0] if t not in free[1])
    stopped = engine.generate(prompts, max_new_tokens=10, stop_tokens=[stop])
    assert stopped[0] == free[0][:free[0].index(stop) + 1]
    assert stopped[1] == free[1]


def test_generation_ends_when_every_row_has_stopped(engine):
    free = engine.generate([prompt(12, 5)], max_new_tokens=10)[0]
    run = engine.start([prompt(12, 5)], max_new_tokens=10, stop_tokens=[free[2]])
    run.prefill()
    steps = 0
    while not run.finished:
        run.step()
        steps += 1
    assert steps == free.index(free[2])


def test_a_kept_cache_carries_nothing_over(engine):
    first = engine.generate([prompt(40, 7)], max_new_tokens=6)
    engine.generate([prompt(200, 8)], max_new_tokens=6)
    assert engine.generate([prompt(40, 7)], max_new_tokens=6) == first


@pytest.mark.parametrize("prompts, message", [
    ([], "a prompt is empty"),
    ([[1], []], "a prompt is empty"),
    ([[0] * 8185], "exceed the model's 8192 positions"),
    ([[512]], "token 512 lies outside the vocabulary of 512"),
    ([[-1]], "token -1 lies outside the vocabulary"),
    ([[2**70]], "a token lies outside the vocabulary of 512"),
    ([[IMAGE, 1, 2]], "unclosed image tag"),
    ([with_image(1, 1, 0)], "hold 1 images and features of 0 were given"),
])
def test_bad_prompts_are_refused(engine, prompts, message):
    with pytest.raises(UserError, match=message):
        engine.generate(prompts, max_new_tokens=8)


def test_features_without_an_image_are_refused(engine):
    with pytest.raises(UserError, match="hold 0 images and features of 1 were given"):
        engine.generate([[1]], np.zeros([1, 256, 256], np.float32))
