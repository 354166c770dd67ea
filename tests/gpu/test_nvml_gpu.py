"""What the benchmark records of a card, against nvidia-smi on the same card."""

import os
import subprocess
import sys
import time

import pynvml
import pytest

from bench.conditions import EVENT_REASONS, Gpu, Sampler
from bench.device_memory import DeviceMemory, nvml_reader, read_with_command
from tests.gpu.kernels import has_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]
FIRST_UUID = """
import ctypes, uuid
cuda, device, raw = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), (ctypes.c_ubyte * 16)()
assert not cuda.cuInit(0) and not cuda.cuDeviceGet(ctypes.byref(device), 0) and not cuda.cuDeviceGetUuid(raw, device)
print(f"GPU-{uuid.UUID(bytes=bytes(raw))}")
"""
FIGURES = ("sm_mhz", "memory_mhz", "temperature_c", "power_w")


def uuid_of(gpu):
    return pynvml.nvmlDeviceGetUUID(gpu.card.part)


def smi(*fields):
    line = subprocess.run(["nvidia-smi", f"--id={uuid_of(Gpu())}", f"--query-gpu={','.join(fields)}",
                           "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True).stdout
    return [text.strip() for text in line.strip().split(",")]


def test_facts_are_those_of_nvidia_smi():
    facts = Gpu().facts()
    name, driver, limit, ecc, clock = smi("name", "driver_version", "enforced.power.limit", "ecc.mode.current",
                                          "clocks.max.sm")
    assert facts == {"name": name, "driver": driver, "power_limit_w": pytest.approx(float(limit), abs=0.01),
                     "ecc": ecc == "Enabled", "max_sm_mhz": int(clock)}


def test_a_look_has_every_figure():
    gpu = Gpu()
    assert gpu.fault == ""
    look = gpu.look()
    assert {name: type(look[name]) in (int, float) for name in FIGURES} == dict.fromkeys(FIGURES, True), look
    assert 0 < look["sm_mhz"] <= gpu.facts()["max_sm_mhz"] and look["memory_mhz"] > 0
    assert 0 < look["temperature_c"] < 120 and 0 < look["power_w"] < 2000
    assert isinstance(look["events"], list) and set(look["events"]) <= set(EVENT_REASONS.values())


def test_summary_of_a_run():
    with Sampler(seconds=0.05) as sampler:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
    gpu = sampler.summary()["gpu"]
    assert all(set(gpu[name]) == {"min", "median", "max"} for name in FIGURES), gpu
    assert isinstance(gpu["throttled"], bool) and all(0 < share <= 1 for share in gpu["events"].values())
    assert sampler.summary()["looks"] >= 2


def test_memory_is_that_of_nvidia_smi():
    used, total = nvml_reader()()
    smi_used, smi_total = map(float, smi("memory.used", "memory.total"))
    assert total == pytest.approx(smi_total, abs=1)
    assert used == pytest.approx(smi_used, abs=0.02 * smi_total)   # NVML counts what the driver reserves, too
    assert DeviceMemory().source == "NVML"


def test_a_card_is_the_one_that_its_uuid_names():
    """CUDA, asked in a process of its own, NVML and nvidia-smi mean the same card by a UUID and by its beginning."""
    for name in (uuid_of(Gpu()), uuid_of(Gpu())[:12]):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": name}
        cuda = subprocess.run([sys.executable, "-c", FIRST_UUID], env=environment, capture_output=True, text=True)
        assert cuda.returncode == 0, cuda.stderr
        assert cuda.stdout.strip() == uuid_of(Gpu(environment=environment)) == uuid_of(Gpu())
        assert read_with_command(environment)[1] == pytest.approx(nvml_reader(environment)()[1], abs=1)


def test_no_card_is_none_of_them():
    for name in ("", "-1", "NoDevFiles", "GPU-00000000"):
        assert Gpu(environment={"CUDA_VISIBLE_DEVICES": name}).facts().startswith("not available")
