"""The decoder stack: fused against native over batches of different length, cached tokens and log-n scaling, and
against itself when the same tokens come in other portions. (Goldens: test_replay.py.)"""

import numpy as np
import pytest

from infer.rope import inverse_frequencies
from tests.operators import CLOSE, config, functional, paddle, random_weights, tensor

MADE = config()
WEIGHTS = random_weights("decoder", MADE)


class Stack:
    """One batch with its caches, fed portion by portion."""

    def __init__(self, impl, batch, slots=192, seq_length=0):
        self.impl, self.seq_length = impl, seq_length
        self.positions = np.zeros([batch], np.int32)
        self.inv_freq = tensor(np.stack([inverse_frequencies(MADE, 9 + 40 * row) for row in range(batch)]))
        shape = [MADE.num_hidden_layers, batch, MADE.num_attention_heads, slots, MADE.kv_channels]
        self.caches = [paddle.zeros(shape) for _ in range(2)]

    def feed(self, hidden, lengths):
        out = functional.decoder(
            tensor(hidden), tensor(lengths, "int32"), tensor(self.positions, "int32"), self.inv_freq, WEIGHTS,
            *self.caches, heads=MADE.num_attention_heads, seq_length=self.seq_length, eps=MADE.layer_norm_epsilon,
            impl=self.impl).numpy()
        self.positions = self.positions + np.asarray(lengths, np.int32)
        return [row[:length] for row, length in zip(out, lengths)]


def hidden(batch, columns, seed=0):
    return np.random.default_rng(seed).standard_normal([batch, columns, MADE.hidden_size]).astype(np.float32)


@pytest.mark.parametrize("seq_length", [0, 16])
@pytest.mark.parametrize("lengths", [[1], [63], [64], [65], [130], [5, 77, 1], [9] * 9])
def test_prefill_then_decode(lengths, seq_length):
    fused, native = (Stack(impl, len(lengths), seq_length=seq_length) for impl in ("fused", "native"))
    prompt = hidden(len(lengths), max(lengths))
    ones = [1] * len(lengths)
    for step in range(4):
        new = prompt if step == 0 else hidden(len(lengths), 1, seed=step)
        for ours, reference in zip(fused.feed(new, lengths if step == 0 else ones),
                                   native.feed(new, lengths if step == 0 else ones)):
            np.testing.assert_allclose(ours, reference, **CLOSE)
    for ours, reference in zip(fused.caches, native.caches):
        for row, end in enumerate(fused.positions):
            np.testing.assert_allclose(ours.numpy()[:, row, :, :end], reference.numpy()[:, row, :, :end], **CLOSE)


@pytest.mark.parametrize("impl", ["fused", "native"])
def test_portions_do_not_matter(impl):
    prompt = hidden(1, 100)
    (whole,) = Stack(impl, 1, seq_length=16).feed(prompt, [100])
    portions, stack = [], Stack(impl, 1, seq_length=16)
    for begin, end in ((0, 40), (40, 41), (41, 100)):
        portions += stack.feed(prompt[:, begin:end], [end - begin])
    np.testing.assert_allclose(np.concatenate(portions), whole, **CLOSE)


def test_rows_do_not_mix():
    prompt = hidden(3, 50)
    together = Stack("fused", 3).feed(prompt, [50, 20, 33])[0]
    (alone,) = Stack("fused", 1).feed(prompt[:1], [50])
    np.testing.assert_allclose(together, alone, **CLOSE)


def test_a_full_cache_is_refused():
    with pytest.raises(Exception, match="9 columns do not fit 8 cache slots"):
        Stack("fused", 1, slots=8).feed(hidden(1, 9), [9])
    stack = Stack("fused", 1, slots=8)
    stack.feed(hidden(1, 5), [5])
    with pytest.raises(Exception, match="row 0: 5 cached and 4 new tokens do not fit 8 cache slots"):
        stack.feed(hidden(1, 4), [4])


def test_a_matrix_of_another_type_is_refused(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "qkv_weight", WEIGHTS["qkv_weight"].astype("int32"))
    with pytest.raises(Exception, match="qkv_weight has type int32, expected float32"):
        Stack("fused", 1).feed(hidden(1, 9), [9])
