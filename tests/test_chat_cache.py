"""A KV cache that is kept between prompts: what is taken over, and logits equal to those of a whole prefill."""

import numpy as np
import pytest

from core.placement import CPU
from infer.cache import KvCache
from infer.engine import Engine

IMAGE = 480  # <img> of the tiny preset; the closing tag follows it
CLOSE = dict(rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def engine(exported_tiny):
    return Engine(exported_tiny, CPU)


@pytest.fixture(scope="module")
def pictures(engine):
    pixels = np.random.default_rng(0).standard_normal([3, 1, 3, 448, 448]).astype(np.float32)
    return [engine.vision(each) for each in pixels]


def text(length, seed):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def image(content=0):
    return [IMAGE, *[content] * 256, IMAGE + 1]


def run(engine, ids, features=(), cache=None, new_tokens=6):
    """Tokens, logits of each, and how many tokens were taken over."""
    made = engine.start([ids], list(features), new_tokens, cache=cache)
    made.prefill()
    logits = [made.logits()[0, 0]]
    while not made.finished:
        made.step()
        logits.append(made.logits()[0, 0])
    return made.tokens()[0], np.stack(logits), made.reused


def turns(engine, *prompts):
    """Prompts (ids, features) one after the other on one cache, each checked against a whole prefill; the last's count
    of tokens taken over."""
    cache = KvCache()
    for ids, features in prompts:
        tokens, logits, reused = run(engine, ids, features, cache)
        whole_tokens, whole_logits, none = run(engine, ids, features)
        assert none == 0 and tokens == whole_tokens
        np.testing.assert_allclose(logits, whole_logits, **CLOSE)
        assert cache.ids == [*ids, *tokens[:-1]]
    return reused


def test_text_turns_with_the_answers_between(engine):
    first = text(40, 1)
    answer = run(engine, first)[0]
    second = [*first, *answer, *text(15, 2)]
    assert turns(engine, (first, []), (second, [])) == len(first) + len(answer) - 1


def test_another_token_ends_what_is_taken_over(engine):
    first = text(60, 3)
    second = [*first[:33], (first[33] + 1) % 256, *first[34:]]
    assert turns(engine, (first, []), (second, [])) == 33


def test_the_same_prompt_again_computes_its_last_token(engine):
    assert turns(engine, (text(20, 4), []), (text(20, 4), [])) == 19


def test_a_shorter_prompt(engine):
    assert turns(engine, (text(50, 5), []), (text(50, 5)[:30], [])) == 29


def test_images_of_earlier_turns_are_taken_over(engine, pictures):
    first = [*text(9, 6), *image(), *text(12, 7)]
    second = [*first, *text(20, 8), *image(), *text(7, 9)]
    third = [*second, *text(5, 10), *image(1), *image(2), *text(3, 11)]
    assert turns(engine, (first, pictures[:1]), (second, pictures[:2])) == len(first)
    assert turns(engine, (first, pictures[:1]), (second, pictures[:2]),
                 (third, [*pictures[:2], pictures[2], pictures[0]])) == len(second)


def test_another_picture_in_the_same_place_is_not_taken_over(engine, pictures):
    ids = [*text(9, 12), *image(), *text(12, 13)]
    assert turns(engine, (ids, pictures[:1]), (ids, pictures[1:2])) == 9


def test_the_second_of_two_pictures_changes(engine, pictures):
    ids = [*text(4, 14), *image(), *text(5, 15), *image(), *text(6, 16)]
    assert turns(engine, (ids, pictures[:2]), (ids, [pictures[0], pictures[2]])) == 4 + 258 + 5


def test_an_image_is_never_cut(engine, pictures):
    ids = [*text(4, 17), *image(1), *text(5, 18)]
    other = [*text(4, 17), *image(1)]
    other[100] = 2  # another path
    assert turns(engine, (ids, pictures[:1]), ([*other, *text(5, 18)], pictures[:1])) == 4


def test_a_new_rotary_base_makes_all_keys_anew(engine):
    long = text(2300, 19)
    assert turns(engine, (long[:2000], []), (long[:2040], [])) == 2000
    assert turns(engine, (long[:2040], []), (long[:2060], [])) == 0


def test_beyond_the_trained_length_the_cache_is_taken_over_again(engine):
    long = text(2300, 20)
    assert turns(engine, (long[:2100], []), (long[:2300], [])) == 2100


def test_a_prompt_that_failed_leaves_a_right_cache(engine, monkeypatch):
    first, cache = text(30, 21), KvCache()
    run(engine, first, cache=cache)
    broken = engine.start([[*first[:20], *text(20, 22)]], [], 4, cache=cache)
    assert cache.ids == first[:20] and broken.reused == 20  # nothing has run
    second = [*first, *text(8, 23)]
    tokens, logits, reused = run(engine, second, cache=cache)
    assert reused == 20
    np.testing.assert_allclose(logits, run(engine, second)[1], **CLOSE)


def test_two_caches_and_other_runs_do_not_mix(engine):
    prompts, caches = (text(30, 24), text(35, 25)), (KvCache(), KvCache())
    longer = [[*ids, *text(9, 26)] for ids in prompts]
    for ids, cache in zip(prompts, caches):
        run(engine, ids, cache=cache)
    run(engine, text(64, 27))
    for ids, more, cache in zip(prompts, longer, caches):
        tokens, _, reused = run(engine, more, cache=cache)
        assert reused == len(ids) and tokens == run(engine, more)[0]


def test_a_cache_grows_with_the_rotary_regimes(engine):
    cache = KvCache()
    for tokens, slots in ((10, 2048), (2048, 2048), (2049, 4096), (5000, 8192), (8192, 8192)):
        cache.reserve(tokens, engine.config, lambda shape: np.empty(shape, np.int8))
        assert cache.slots == slots
