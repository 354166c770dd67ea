"""What the benchmark records of a card, against nvidia-smi on the same card."""

import subprocess
import time

import pytest

from bench.conditions import EVENT_REASONS, Gpu, Sampler
from bench.device_memory import DeviceMemory, device_index, nvml_reader
from tests.gpu.kernels import has_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]
FIGURES = ("sm_mhz", "memory_mhz", "temperature_c", "power_w")


def smi(*fields):
    line = subprocess.run(["nvidia-smi", f"--id={device_index()}", f"--query-gpu={','.join(fields)}",
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
