"""Final norm, logits, greedy choice and the generation's state, against numpy."""

import numpy as np
import pytest

from ops import formats
from tests.operators import CLOSE, config, functional, random_weights, tensor

MADE = config()
WEIGHTS = random_weights("lm_head", MADE)


def run(impl, hidden, lengths, columns, stop_tokens, state, format=None):
    tensors = {name: tensor(value, "int64" if name in ("next_tokens", "generated") else "int32")
               for name, value in state.items()}
    logits = functional.lm_head(tensor(hidden), tensor(lengths, "int32"), tensor(columns, "int32"),
                                tensor(stop_tokens, "int64"), WEIGHTS, **tensors, eps=1e-6, format=format,
                                impl=impl).numpy()
    return logits, {name: value.numpy() for name, value in tensors.items()}


def state(batch, capacity=5, **given):
    made = {"positions": np.arange(batch) * 10, "next_tokens": np.full([batch, 1], 3), "counts": np.zeros([batch]),
            "generated": np.zeros([batch, capacity]), "finished": np.zeros([batch])}
    return {name: np.asarray(given.get(name, value)) for name, value in made.items()}


def reference_logits(hidden, columns):
    picked = np.take_along_axis(hidden, columns[:, :, None], 1)
    picked = picked / np.sqrt((picked ** 2).mean(-1, keepdims=True) + 1e-6) * WEIGHTS["ln_f_weight"].numpy()
    return picked @ WEIGHTS["lm_head_weight"].numpy().T


@pytest.mark.parametrize("impl", ["fused", "native"])
@pytest.mark.parametrize("batch, wanted", [(1, 1), (2, 3), (9, 1), (3, 7)])
def test_logits_of_the_wanted_columns(impl, batch, wanted):
    rng = np.random.default_rng(batch)
    hidden = rng.standard_normal([batch, 11, MADE.hidden_size])
    columns = rng.integers(0, 11, [batch, wanted])
    logits, after = run(impl, hidden, [11] * batch, columns, [-1], state(batch))
    expected = reference_logits(hidden, columns)
    np.testing.assert_allclose(logits, expected, **CLOSE)
    np.testing.assert_array_equal(after["next_tokens"][:, 0], expected[:, -1].argmax(-1))


@pytest.mark.parametrize("impl", ["fused", "native"])
def test_state_moves_on(impl):
    hidden = np.random.default_rng(0).standard_normal([3, 4, MADE.hidden_size])
    columns = np.array([[3], [1], [0]])
    choice = reference_logits(hidden, columns)[:, -1].argmax(-1)
    assert choice[0] != choice[1]
    before = state(3, counts=[2, 0, 1], finished=[0, 0, 1])
    _, after = run(impl, hidden, [4, 2, 1], columns, [90, choice[1]], before)
    np.testing.assert_array_equal(after["positions"], [4, 12, 20])
    np.testing.assert_array_equal(after["counts"], [3, 1, 1])
    np.testing.assert_array_equal(after["finished"], [choice[0] == choice[1], 1, 1])
    np.testing.assert_array_equal(after["next_tokens"][:, 0], [choice[0], choice[1], 3])
    np.testing.assert_array_equal(after["generated"], [[0, 0, choice[0], 0, 0], [choice[1], 0, 0, 0, 0], [0] * 5])


@pytest.mark.parametrize("impl", ["fused", "native"])
def test_a_full_record_is_not_overrun(impl):
    hidden = np.random.default_rng(0).standard_normal([1, 1, MADE.hidden_size])
    _, after = run(impl, hidden, [1], [[0]], [-1], state(1, capacity=2, counts=[2], generated=[[7, 8]]))
    np.testing.assert_array_equal(after["generated"], [[7, 8]])


@pytest.mark.parametrize("impl", ["fused", "native"])
def test_the_lowest_of_equal_logits_wins(impl):
    _, after = run(impl, np.zeros([1, 1, MADE.hidden_size]), [1], [[0]], [-1], state(1))
    assert after["next_tokens"][0, 0] == 0


ROUNDED = [format.name for format in formats.quantised()]   # read on every device


@pytest.mark.parametrize("format, message", [
    *((format, f"matrices in {format} are not for these weights and this device: leave them as they were exported")
      for format in formats.NAMES if format != "float32" and format not in ROUNDED),
    *((format, f"rows and 128 columns: in {format} they are multiples of 8 and 128") for format in ROUNDED),
    ("float13", "no weight format is called float13")])
def test_a_format_of_other_weights_is_refused(format, message):
    with pytest.raises(Exception, match=message):
        run("fused", np.zeros([1, 2, MADE.hidden_size]), [2], np.array([[1]]), [-1], state(1), format=format)
