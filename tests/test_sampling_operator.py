"""Sampling in the head's operator: distribution against the exact probabilities (chi-square), every filter and the
random numbers against numpy, state, seeds, and what is refused."""

import numpy as np
import pytest
from scipy import stats

from core.errors import UserError
from infer.sampling_parameters import MAX_SEED, Sampling, records
from tests.operators import functional, tensor
from tests.sampling_reference import drawn, philox, probabilities

IMAGE = 10**9  # no token of these vocabularies
FILTERS = [
    dict(temperature=1.0), dict(temperature=0.5), dict(temperature=3.0, top_k=7), dict(temperature=1.0, top_p=0.6),
    dict(temperature=2.0, top_p=0.9, top_k=25), dict(temperature=1.5, repetition_penalty=1.7, top_p=0.95),
    dict(temperature=1.0, min_new_tokens=3), dict(temperature=1.3, top_p=0.999), dict(temperature=0.7, top_k=1),
    dict(temperature=100.0, top_k=3, top_p=0.5),
]


class Head:
    """Rows that all have the same logits, or a row of logits each; `choose` draws once for every row."""

    def __init__(self, logits, samplings, prompts=None, positions=None, stop_tokens=(-1,), slots=8):
        logits = np.atleast_2d(np.asarray(logits, np.float32))
        batch, vocab = len(samplings), logits.shape[1]
        width = len(logits)  # a hidden row is a unit vector, so the head's matrix holds the logits
        self.hidden = np.eye(width, dtype=np.float32)[np.arange(batch) % width][:, None] if width > 1 else np.ones(
            [batch, 1, 1], np.float32)
        norm = np.sqrt(1 / width + 1e-6)
        self.weights = {"ln_f_weight": tensor(np.full([width], norm)), "lm_head_weight": tensor(logits.T)}
        prompts = prompts or [[]] * batch
        self.stop_tokens = tensor(stop_tokens, "int64")
        self.state = {"positions": tensor(np.zeros(batch) if positions is None else positions, "int32"),
                      "next_tokens": tensor(np.zeros([batch, 1]), "int64"),
                      "generated": tensor(np.zeros([batch, slots]), "int64"),
                      "counts": tensor(np.zeros(batch), "int32"), "finished": tensor(np.zeros(batch), "int32"),
                      "sampling": tensor(records(samplings, prompts, vocab, IMAGE), "int32")}

    def choose(self):
        batch = len(self.hidden)
        self.logits = functional.lm_head(
            tensor(self.hidden), tensor(np.ones(batch), "int32"), tensor(np.zeros([batch, 1]), "int32"),
            self.stop_tokens, self.weights, *self.state.values(), eps=1e-6).numpy()[:, 0]
        return self.state["next_tokens"].numpy()[:, 0]


def random_logits(vocab, seed, spread=2.0):
    return np.random.default_rng(seed).standard_normal(vocab).astype(np.float32) * spread


@pytest.mark.parametrize("given", FILTERS, ids=str)
def test_distribution_is_the_exact_one(given):
    vocab, draws, seen, stops = 61, 4000, [3, 4, 5, 17], (8, 9)
    head = Head(random_logits(vocab, 1), [Sampling(**given, seed=i) for i in range(draws)], [seen] * draws,
                stop_tokens=stops)
    counts = np.bincount(head.choose(), minlength=vocab)
    expected = draws * probabilities(head.logits[0], **given, seen=seen, stop_tokens=stops)
    assert counts[expected == 0].sum() == 0
    order = np.argsort(expected)  # bins of fewer than 10 expected draws are taken together
    bins = np.cumsum(expected[order]) // 10
    grouped = [np.bincount(bins.astype(int), weights=values[order]) for values in (counts, expected)]
    observed, wanted = (values[grouped[1] > 0] for values in grouped)
    if len(wanted) > 1:
        assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("given", FILTERS, ids=str)
@pytest.mark.parametrize("vocab", [2, 33, 3001])
def test_tokens_are_those_of_the_random_numbers(given, vocab):
    rows = 24
    logits = np.stack([random_logits(vocab, row, spread=1 + row) for row in range(rows)])
    seeds, positions = [row * 2**33 + 5 for row in range(rows)], np.arange(rows) * 1000
    head = Head(logits, [Sampling(**given, seed=seed) for seed in seeds], [[1]] * rows, positions, stop_tokens=[0])
    chosen = head.choose()
    for row in range(rows):
        made = probabilities(head.logits[row], **given, seen=[1], stop_tokens=[0])
        assert chosen[row] == drawn(made, seeds[row], int(positions[row]) + 1)


def test_random_numbers_are_the_published_ones():
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    logits = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))
    for top_p, kept in ((1e-6, {1}), (0.39, {1}), (0.41, {1, 3}), (0.69, {1, 3}), (0.71, {1, 3, 4}),
                        (0.96, {0, 1, 2, 3, 4})):
        assert set(Head(logits, [Sampling(1.0, top_p, seed=i) for i in range(500)]).choose()) == kept


def test_equal_scores_are_kept_or_left_out_together():
    logits = [0.0, 2.0, 2.0, 2.0, -1.0]
    assert set(Head(logits, [Sampling(1.0, top_k=2, seed=i) for i in range(200)]).choose()) == {1, 2, 3}
    assert set(Head(logits, [Sampling(1.0, top_p=0.1, seed=i) for i in range(200)]).choose()) == {1, 2, 3}


def test_top_k_beyond_the_vocabulary_keeps_all():
    logits = random_logits(40, 2)
    narrow, wide = (Head(logits, [Sampling(1.0, top_k=k, seed=i) for i in range(300)]).choose() for k in (0, 10**9))
    np.testing.assert_array_equal(narrow, wide)


def test_penalty_and_minimum_length_without_chance():
    vocab, stop = 50, 7
    logits = random_logits(vocab, 3)
    logits[stop] = logits.max() + 5
    given = dict(repetition_penalty=2.5, min_new_tokens=4)
    head, seen, stopped_at = Head(logits, [Sampling(**given)], [[2, 30]], stop_tokens=[stop]), [2, 30], None
    for step in range(8):
        token = head.choose()[0]
        expected = probabilities(head.logits[0], **given, seen=seen, stop_tokens=[stop], count=step).argmax()
        if stopped_at is None:
            assert token == expected
            seen.append(token)
            stopped_at = step if token == stop else None
    assert stopped_at == 4
    assert head.state["counts"].numpy()[0] == 5 and head.state["positions"].numpy()[0] == 5
    np.testing.assert_array_equal(head.state["generated"].numpy()[0], [*seen[2:], 0, 0, 0])


def test_temperature_zero_beside_rows_that_draw():
    logits = random_logits(200, 4)
    head = Head(logits, [Sampling(), *[Sampling(5.0, seed=i) for i in range(30)]])
    chosen = head.choose()
    assert chosen[0] == head.logits[0].argmax() and len(set(chosen[1:])) > 10


def test_tokens_depend_on_seed_and_position_but_not_on_the_row():
    logits = random_logits(5000, 5, spread=0.5)
    seeds = [7, 8, 7, 9]
    together, alone = Head(logits, [Sampling(1.0, seed=s) for s in seeds]), Head(logits, [Sampling(1.0, seed=9)])
    both = [(together.choose(), alone.choose()[0]) for _ in range(5)]
    for rows, single in both:
        assert rows[0] == rows[2] and rows[3] == single
    assert len({tuple(rows) for rows, _ in both}) == 5
    assert any(rows[0] != rows[1] for rows, _ in both)


def test_more_than_one_logit_column_draws_from_the_last():
    logits = np.stack([random_logits(30, 6), random_logits(30, 7)])
    weights = {"ln_f_weight": tensor(np.full([2], np.sqrt(0.5 + 1e-6))), "lm_head_weight": tensor(logits.T)}
    state = Head(logits[1], [Sampling()]).state
    functional.lm_head(tensor(np.eye(2)[None]), tensor([2], "int32"), tensor([[0, 1]], "int32"), tensor([-1], "int64"),
                       weights, *state.values(), eps=1e-6)
    assert state["next_tokens"].numpy()[0, 0] == logits[1].argmax() and state["positions"].numpy()[0] == 2


@pytest.mark.parametrize("logits", [[np.nan, 1.0, np.nan], [-np.inf, 1.0, -np.inf], [-1e30, 3e30, 2e30]])
def test_what_is_no_number_is_never_drawn(logits):
    weights = np.asarray(logits, np.float32)
    assert set(Head(weights, [Sampling(1.0, seed=i) for i in range(50)]).choose()) == {1}


def test_image_slots_are_not_seen():
    ids = [5, 480, *range(200, 456), 481, 6]
    seen = np.unpackbits(records([Sampling()], [ids], 512, 480)[:, 7:].view(np.uint8), bitorder="little")
    assert set(np.flatnonzero(seen)) == {5, 480, 481, 6}


@pytest.mark.parametrize("name, value", [
    ("temperature", -0.1), ("temperature", 1e-4), ("temperature", float("nan")), ("temperature", "hot"),
    ("temperature", 1e9), ("top_p", 0.0), ("top_p", 1.01), ("top_p", float("inf")), ("top_k", -1), ("top_k", 1.5),
    ("top_k", 2**31), ("repetition_penalty", 0.0), ("repetition_penalty", -1.0), ("min_new_tokens", -1),
    ("min_new_tokens", True), ("seed", -1), ("seed", MAX_SEED + 1), ("seed", None)])
def test_parameters_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=f"^{name}=.* is out of range: give .*"):
        Sampling(**{name: value})


def test_a_record_of_another_vocabulary_is_refused():
    head = Head(random_logits(40, 8), [Sampling(1.0)])
    head.state["sampling"] = tensor(records([Sampling(1.0)], [[]], 80, IMAGE), "int32")
    with pytest.raises(Exception, match=r"sampling has shape \[1, 10\], expected \[1, 9\]"):
        head.choose()
