"""Small inputs packed and sent together: what they hold, where they lie, and that their addresses stay."""

import numpy as np
import pytest

from core.placement import Placement
from infer.inputs import ALIGNMENT, PACKED_BYTES, DeviceInputs
from ops.framework import devices, import_paddle, tensors

VECTOR = 16  # bytes that kernels load at once


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def inputs(request):
    placement = Placement(request.param)
    if placement.on_gpu and not devices.has_gpu():
        pytest.skip("needs an NVIDIA GPU and Paddle's wheel for it")
    with devices.using(placement):
        yield DeviceInputs(placement)


def arrays(seed, columns=7):
    random = np.random.default_rng(seed)
    return {"positions": random.integers(0, 99, [3], np.int32),
            "next_tokens": random.integers(0, 2**40, [3, 1], np.int64),
            "inv_freq": random.standard_normal([3, 5]).astype(np.float32),
            "lengths": random.integers(0, 99, [3], np.int32),
            "tokens": random.integers(0, 2**40, [3, columns], np.int64),
            "image_starts": random.integers(-1, 99, [1, 2], np.int32)}


def sent(inputs, made):
    tensors = inputs.pack(**made)
    inputs.send()
    return tensors


def assert_holds(inputs, tensors, made):
    assert tensors.keys() == made.keys()
    for (name, array), read in zip(made.items(), inputs.read(*made), strict=True):
        for content in (tensors[name].numpy(), read):
            assert content.dtype == array.dtype
            np.testing.assert_array_equal(content, array)
        assert tensors[name].data_ptr() % VECTOR == 0
        assert tensors[name].data_ptr() % ALIGNMENT == tensors["positions"].data_ptr() % ALIGNMENT
    addresses = [tensors[name].data_ptr() for name in made]
    assert addresses == sorted(addresses) and addresses[-1] - addresses[0] < PACKED_BYTES


def test_what_was_sent_is_there_and_keeps_its_addresses(inputs):
    tensors = sent(inputs, arrays(0))
    assert_holds(inputs, tensors, arrays(0))
    again = sent(inputs, arrays(1))
    assert_holds(inputs, again, arrays(1))
    assert all(again[name] is tensors[name] for name in tensors)  # so that a graph has nothing to bind


def test_nothing_arrives_before_it_is_sent(inputs):
    tensors = sent(inputs, arrays(0))
    inputs.pack(**arrays(1))
    assert_holds(inputs, tensors, arrays(0))
    inputs.send()
    assert_holds(inputs, tensors, arrays(1))


def test_all_types_go_in_one_copy(inputs, monkeypatch):
    inputs.pack(**arrays(0))
    tensor, copies = type(import_paddle().zeros([1]).get_tensor()), []
    plain = tensor.set
    monkeypatch.setattr(tensor, "set", lambda *args: copies.append(plain(*args)))
    inputs.send()
    assert len(copies) == 1


def test_another_shape_moves_only_what_comes_after_it(inputs):
    before = sent(inputs, arrays(0))
    after = sent(inputs, arrays(1, columns=40))
    assert_holds(inputs, after, arrays(1, columns=40))
    same = [name for name in after if after[name] is before[name]]
    assert same == ["positions", "next_tokens", "inv_freq", "lengths"]
    assert after["tokens"].data_ptr() == before["tokens"].data_ptr()


def test_the_memory_grows_with_what_is_packed(inputs):
    sent(inputs, arrays(0))
    long = sent(inputs, arrays(1, columns=PACKED_BYTES))
    for name, array in arrays(1, columns=PACKED_BYTES).items():
        np.testing.assert_array_equal(long[name].numpy(), array)
    short = sent(inputs, arrays(2))
    assert_holds(inputs, short, arrays(2))
    assert short["lengths"] is long["lengths"]


def test_what_a_graph_wrote_is_read_and_replaced(inputs):
    held = sent(inputs, arrays(0))
    tensors.write(held["lengths"], np.array([7, 7, 7], np.int32), inputs._placement)
    lengths, positions = inputs.read("lengths", "positions")
    assert lengths.tolist() == [7, 7, 7] and positions.tolist() == arrays(0)["positions"].tolist()
    inputs.send()
    assert_holds(inputs, held, arrays(0))


def test_keep_sends_what_differs(inputs):
    first = inputs.keep("table", np.arange(4, dtype=np.int32))
    assert inputs.keep("table", np.arange(4, dtype=np.int32)) is first
    second = inputs.keep("table", np.arange(4, dtype=np.int32) + 1)
    assert second is first and second.numpy().tolist() == [1, 2, 3, 4]
