"""Generation on the exported graphs: batches, stop tokens, caches, and what is refused before anything runs."""

import numpy as np
import pytest

from core.errors import UserError
from core.placement import CPU
from infer.cache import KvCache
from infer.engine import Engine
from ops.framework import import_paddle

IMAGE = 480  # <img> of the tiny preset; the closing tag follows it


@pytest.fixture(scope="module")
def engine(exported_tiny):
    return Engine(exported_tiny, CPU)


def prompt(length, seed):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def with_image(before, after, seed):
    return [*prompt(before, seed), IMAGE, *[0] * 256, IMAGE + 1, *prompt(after, seed + 1)]


def pixels(seed, count=1):
    return np.random.default_rng(seed).standard_normal([count, 3, 448, 448]).astype(np.float32)


def test_weights_on_the_cpu_are_as_exported(engine):
    assert engine.weights == engine.dtype == "float32"


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


class Part:
    """An image's features on a device, which notes when they are fetched from there."""

    shape = [1, 256, 256]

    def __init__(self, content, log):
        self.content, self.log = content, log

    def numpy(self):
        self.log.append("features fetched")
        return self.content


@pytest.fixture
def copies(engine, monkeypatch):
    """What is copied to or from the device and what runs there, in order."""
    paddle, log = import_paddle(), []

    def noted(owner, name, text):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: (log.append(text), plain(*args, **kwargs))[1])

    noted(type(paddle.zeros([1]).get_tensor()), "set", "copy")
    noted(paddle, "to_tensor", "copy")
    noted(paddle.Tensor, "numpy", "fetched")
    noted(engine._language, "run", "language graph")
    noted(engine._vision, "run", "vision graph")
    return log


def test_start_is_work_of_the_host_alone(engine, copies):
    features = engine.vision(pixels(0))
    run = engine.start([with_image(3, 4, 1)], features, max_new_tokens=3, stop_tokens=[5])
    run.prefill()
    del copies[:]
    run = engine.start([with_image(4, 3, 2)], features, max_new_tokens=3, stop_tokens=[6])
    assert copies == []
    run.prefill()
    assert copies == ["copy", "language graph"]


def test_start_leaves_features_where_they_are(engine, copies):
    contents = np.random.default_rng(7).standard_normal([2, 1, 256, 256]).astype(np.float32)
    run = engine.start([with_image(2, 3, 3) + with_image(1, 5, 4)], [Part(content, copies) for content in contents])
    assert copies == []
    run.prefill()
    assert copies.count("features fetched") == 2 and copies[-1] == "language graph"
    apart = run.logits()
    run = engine.start([with_image(2, 3, 3) + with_image(1, 5, 4)], np.concatenate(contents))
    run.prefill()
    np.testing.assert_array_equal(run.logits(), apart)


def test_a_generation_ends_when_another_one_starts(engine):
    first = engine.start([prompt(12, 5)])
    first.prefill()
    second = engine.start([prompt(9, 6)])
    for use in (first.step, first.tokens, first.logits, first.prefill, lambda: first.finished):
        with pytest.raises(RuntimeError, match="another generation was started"):
            use()
    second.prefill()
    assert len(second.tokens()[0]) == 1


def test_a_start_that_is_refused_ends_nothing(engine):
    expected = engine.generate([prompt(12, 5)], max_new_tokens=6)
    run = engine.start([prompt(12, 5)], max_new_tokens=6)
    for bad in ([[]], [[512]], [[IMAGE, 1, 2]]):
        with pytest.raises(UserError):
            engine.start(bad)
    run.prefill()
    with pytest.raises(UserError):
        engine.start([with_image(1, 1, 0)])
    while not run.finished:
        run.step()
    assert run.tokens() == expected


def test_a_generation_has_one_prefill_and_it_comes_first(engine):
    run = engine.start([prompt(12, 5)])
    for use in (run.step, run.tokens, run.logits, lambda: run.finished):
        with pytest.raises(RuntimeError, match="begins with `prefill`"):
            use()
    run.prefill()
    with pytest.raises(RuntimeError, match="begins with `prefill`"):
        run.prefill()


@pytest.mark.parametrize("cache", [None, KvCache()], ids=["engine's cache", "kept cache"])
def test_no_step_goes_beyond_the_tokens_asked_for(engine, cache):
    run = engine.start([prompt(12, 5)], max_new_tokens=3, cache=cache)
    run.prefill()
    run.step()
    run.step()
    tokens = run.tokens()
    with pytest.raises(RuntimeError, match="has its 3 tokens and no cache slot for more"):
        run.step()
    assert run.finished and run.tokens() == tokens and len(tokens[0]) == 3


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
