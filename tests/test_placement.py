"""Where a process computes: what is no placement, what DEVICE= means, and what does not run yet."""

import pytest

from core.errors import UserError
from core.placement import CPU, Placement
from infer.graph import Graph
from ops.framework import devices


@pytest.mark.parametrize("fields", [("tpu",), ("gpu", -1), ("gpu", 0, 2, 2), ("cpu", 0, -1, 2), ("gpu", 0, 0, 0)])
def test_what_is_no_placement(fields):
    with pytest.raises(ValueError, match="no such placement"):
        Placement(*fields)


@pytest.mark.parametrize("device, here, expected", [
    ("cpu", True, CPU), ("auto", True, Placement("gpu")), ("gpu", True, Placement("gpu")), ("auto", False, CPU)])
def test_what_device_means(monkeypatch, device, here, expected):
    monkeypatch.setattr(devices, "has_gpu", lambda: here)
    assert devices.placement(device) == expected


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with pytest.raises(UserError, match="DEVICE=gpu needs an NVIDIA GPU .*: run `make doctor`"):
        devices.placement("gpu")


@pytest.mark.parametrize("device", ["cuda", "GPU", "", None, 0])
def test_a_device_of_another_name(device):
    with pytest.raises(UserError, match="there is no device .*: one of auto, cpu, gpu"):
        devices.placement(device)


def test_the_default_device_is_set_for_a_while():
    paddle = devices.import_paddle()
    before = paddle.get_device()
    with pytest.raises(ZeroDivisionError), devices.using(CPU):
        assert paddle.get_device() == str(CPU) == "cpu"
        raise ZeroDivisionError
    assert paddle.get_device() == before and str(Placement("gpu", 1)) == "gpu:1"


def test_several_devices_are_refused(exported_tiny):
    for graph in ("vision", "language"):
        with pytest.raises(UserError, match=rf"{graph} cannot be shared by 2 processes yet: load"):
            Graph(exported_tiny / graph, Placement("cpu", 0, 1, 2))
