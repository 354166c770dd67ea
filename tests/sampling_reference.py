"""The sampling filters and the random numbers in numpy, float64, for tests on both devices; no framework."""

import dataclasses

import numpy as np


def probabilities(logits, *, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, min_new_tokens=0, seen=(),
                  stop_tokens=(), count=0):
    """Exact probabilities of the next token, float64 [V], filter by filter in the published order."""
    scores = np.asarray(logits, np.float64).copy()
    for token in set(seen):
        scores[token] *= repetition_penalty if scores[token] < 0 else 1 / repetition_penalty
    if count < min_new_tokens:
        scores[list(stop_tokens)] = -np.inf
    if temperature == 0:
        chances = np.zeros(len(scores))
        chances[scores.argmax()] = 1
        return chances
    scores /= temperature
    if top_k:
        scores[scores < np.sort(scores)[-min(top_k, len(scores))]] = -np.inf
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    if top_p < 1:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        chances[order[(before >= top_p) & (np.arange(len(order)) > 0)]] = 0
        chances /= chances.sum()
    return chances


def philox(counter, key):
    """Philox-4x32-10: four words of counter and two of key to four words."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b & 0xFFFFFFFF, a >> 32 ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def drawn(chances, seed, position):
    """The token that a seed draws for a position: the first whose cumulated probability exceeds the random number."""
    low, high, *_ = philox([position & 0xFFFFFFFF, position >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])
    return int(np.searchsorted(np.cumsum(chances), (high << 32 | low) / 2.0**64, side="right"))


def check_run(engine, prompts, samplings, stop, new_tokens):
    """Sample through an engine and hold every token against the logits that the graph returned; returns the tokens."""
    run = engine.start(prompts, None, new_tokens, [stop], sampling=samplings)
    run.prefill()
    expected = [[] for _ in prompts]
    while True:
        logits = run.logits()[:, 0]
        for row, (ids, sampling) in enumerate(zip(prompts, samplings)):
            settings = dataclasses.asdict(sampling)
            seed, count = settings.pop("seed"), len(expected[row])
            if stop not in expected[row]:
                chances = probabilities(logits[row], **settings, seen=[*ids, *expected[row]], stop_tokens=[stop],
                                        count=count)
                expected[row].append(drawn(chances, seed, len(ids) + count))
        if run.finished:
            break
        run.step()
    assert run.tokens() == expected
    return expected
