"""Small inputs sent together, on the CPU: what they hold, where they lie, and that their addresses stay."""

import numpy as np
import pytest

from infer.graph import import_paddle
from infer.inputs import ALIGNMENT, DeviceInputs


@pytest.fixture
def inputs():
    return DeviceInputs(import_paddle(), "cpu")


def arrays(seed, columns=7):
    random = np.random.default_rng(seed)
    return {"positions": random.integers(0, 99, [3], np.int32),
            "tokens": random.integers(0, 99, [3, columns], np.int64),
            "finished": random.integers(0, 2, [3], np.int32), "next_tokens": random.integers(0, 99, [3, 1], np.int64)}


def assert_holds(tensors, sent):
    assert tensors.keys() == sent.keys()
    for name, array in sent.items():
        made = tensors[name].numpy()
        assert made.dtype == array.dtype
        np.testing.assert_array_equal(made, array)
        assert tensors[name].data_ptr() % ALIGNMENT == 0


def test_together_holds_what_was_sent_and_keeps_its_addresses(inputs):
    tensors = inputs.put_together(**arrays(0))
    assert_holds(tensors, arrays(0))
    again = inputs.put_together(**arrays(1))
    assert_holds(again, arrays(1))
    assert all(again[name] is tensors[name] for name in tensors)  # so that a graph has nothing to bind


def test_other_shapes_have_memory_of_their_own(inputs):
    before = inputs.put_together(**arrays(0))
    assert_holds(inputs.put_together(**arrays(1, columns=40)), arrays(1, columns=40))
    assert_holds(before, arrays(0))  # who still holds the first keeps it


def test_what_a_graph_wrote_is_replaced(inputs):
    tensors = inputs.put_together(**arrays(0))
    tensors["finished"].get_tensor().set(np.array([7, 7, 7], np.int32), import_paddle().CPUPlace())
    assert_holds(inputs.put_together(**arrays(0)), arrays(0))


def test_keep_sends_what_differs(inputs):
    first = inputs.keep("table", np.arange(4, dtype=np.int32))
    assert inputs.keep("table", np.arange(4, dtype=np.int32)) is first
    second = inputs.keep("table", np.arange(4, dtype=np.int32) + 1)
    assert second is first and second.numpy().tolist() == [1, 2, 3, 4]
