"""Which card is described and watched: the one that CUDA_VISIBLE_DEVICES names, or none."""

import os
import sys
import types

import pytest

from bench import card, device_memory
from bench.conditions import Gpu
from bench.session import watched_gpu
from core.errors import UserError
from tests.bench_options import run_options

UUIDS = ["GPU-aaaa0000-0000-0000-0000-000000000000", "GPU-bbbb1111-1111-1111-1111-111111111111",
         "GPU-bbbb2222-2222-2222-2222-222222222222", "GPU-dddd3333-3333-3333-3333-333333333333"]
PART = "MIG-eeee4444-4444-4444-4444-444444444444"


class Fault(Exception):
    pass


def host(divided=(), instances=()):
    """NVML of a host with four cards; those in `divided` are in MIG mode, with the `instances` at their places."""
    def known(place):
        if place not in range(len(UUIDS)):
            raise Fault("Invalid Argument")
        return place

    def by_uuid(uuid):
        if uuid == PART:
            return "part 0"
        return known(UUIDS.index(uuid) if uuid in UUIDS else -1)

    def instance(place, i):
        if i not in instances:
            raise Fault("Not Found")
        return f"part {i}"

    def memory(place):
        return types.SimpleNamespace(used=(9 if isinstance(place, str) else place) << 30, total=80 << 30)

    return types.SimpleNamespace(
        NVMLError=Fault, NVML_CLOCK_SM=0, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: len(UUIDS),
        nvmlDeviceGetHandleByIndex=known, nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUUID=lambda place: UUIDS[place],
        nvmlDeviceGetMigMode=lambda place: [place in divided, 0], nvmlDeviceGetMaxMigDeviceCount=lambda place: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=instance, nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda part: 2,
        nvmlDeviceGetName=lambda place: f"card {place}", nvmlSystemGetDriverVersion=lambda: "580",
        nvmlDeviceGetEnforcedPowerLimit=lambda place: place * 1000, nvmlDeviceGetEccMode=lambda place: [1, 1],
        nvmlDeviceGetMaxClockInfo=lambda place, clock: place, nvmlDeviceGetMemoryInfo=memory)


@pytest.fixture
def watched(monkeypatch):
    """(name, GiB in use, facts) of the card that CUDA_VISIBLE_DEVICES=`value` shows; None for what is not available."""
    def found(value, nvml=None, **environment):
        nvml = nvml or host()
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        shown = {**environment, **({} if value is None else {"CUDA_VISIBLE_DEVICES": value})}
        facts, read = Gpu(nvml, shown).facts(), device_memory.nvml_reader(shown)
        if isinstance(facts, str):
            assert facts.startswith("not available: ") and read is None
            return None, None, facts
        return facts["name"], read()[0] / 1024, facts
    return found


@pytest.mark.parametrize("value, place", [
    (None, 0), ("0", 0), ("3", 3), (" 2 , 0", 2), ("1,3", 1), ("1,bad", 1), ("03", 3),
    *((uuid, i) for i, uuid in enumerate(UUIDS)),
    ("GPU-dddd", 3), ("GPU-bbbb2", 2), (UUIDS[1] + ",2", 1), (f"{UUIDS[3]},{UUIDS[0]}", 3)])
def test_the_first_visible_card(watched, value, place):
    assert watched(value)[:2] == (f"card {place}", place)


@pytest.mark.parametrize("value", ["", " ", "-1", "-1,0", "NoDevFiles", "none", "void", "all", ",1", "4", "4294967296",
                                   "99999", "1.0", "0x1", "\u00b2", "GPU", "GPU-", "GPU-bbbb", "GPU-x", "gpu-aaaa",
                                   "MIG-ffff", f"MIG-{UUIDS[0]}/1/0", "GPU-aaaa0000-0000-0000-0000-00000000000f"])
def test_what_shows_no_card_for_sure_is_not_available(watched, value):
    assert watched(value)[0] is None


def test_a_mig_instance_has_its_own_name_and_memory_and_the_clocks_of_its_card(watched):
    name, used, facts = watched(PART)
    assert (name, used) == ("card part 0", 9)
    assert facts["max_sm_mhz"] == 2 and facts["power_limit_w"] == 2


@pytest.mark.parametrize("value", ["2", UUIDS[2], "GPU-bbbb2"])
def test_of_a_divided_card_arms_see_an_instance(watched, value):
    assert watched(value, host(divided=[2], instances=[3]))[:2] == ("card part 3", 9)
    for instances in ([], [0, 1]):
        assert "MIG instances" in watched(value, host(divided=[2], instances=instances))[2]


def test_an_order_of_cudas_own_is_not_guessed(watched):
    assert "order of its own" in watched("1", CUDA_DEVICE_ORDER="FASTEST_FIRST")[2]
    assert "order of its own" in watched(None, CUDA_DEVICE_ORDER="FASTEST_FIRST")[2]
    assert watched("1", CUDA_DEVICE_ORDER="PCI_BUS_ID")[0] == "card 1"
    assert watched("GPU-dddd", CUDA_DEVICE_ORDER="FASTEST_FIRST")[0] == "card 3"


def test_arms_count_as_nvml_does(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert card.counted_as_nvml() == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert card.counted_as_nvml() == {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}


def options(torch, paddle):
    added = {"torch": torch, "paddle": paddle}
    return run_options(device="gpu", environment={
        name: {"CUDA_VISIBLE_DEVICES": value} if value else {} for name, value in added.items()})


def test_the_card_of_the_arms_environment_is_watched(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", host())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert watched_gpu(options("3", "3")).facts()["name"] == "card 3"
    assert watched_gpu(options("", "")).facts()["name"] == "card 0"
    with pytest.raises(UserError, match="different cards"):
        watched_gpu(options("", "3"))


SMI = """#!/bin/sh
echo "{0}, Disabled, 100, 80000"
echo "{1}, [N/A], 200, 80000"
echo "{3}, Enabled, 300, 80000"
"""


@pytest.mark.parametrize("value, used", [(None, 100), ("1", 200), ("GPU-bbbb", 200), (UUIDS[0], 100), ("2", None),
                                         ("3", None), ("GPU-", None), (UUIDS[2], None), ("", None), (PART, None)])
def test_nvidia_smi_is_asked_for_the_same_card(tmp_path, monkeypatch, value, used):
    command = tmp_path / "nvidia-smi"
    command.write_text(SMI.format(*UUIDS))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(device_memory, "nvml_reader", lambda environment: None)
    memory = device_memory.DeviceMemory(environment={} if value is None else {"CUDA_VISIBLE_DEVICES": value})
    assert memory.source == (None if used is None else "nvidia-smi")
    assert used is None or memory.read() == (used, 80000)
