"""The machine during a run: what is sampled, and that nothing that is missing ends a run."""

import inspect
import subprocess
import types

import pynvml
import pytest

from bench.conditions import EVENT_REASONS, THROTTLING, Gpu, Sampler, spread
from bench.loaded import family_of, loaded_libraries


class Fault(Exception):
    pass


def fake_nvml(**changes):
    """NVML of a card that is held back by its power limit in every second look; nvidia-ml-py's own names and constants.

    A function that the package does not have, or calls with other arguments, is a fault of this fake.
    """
    looks = iter([0x4, 0x1] * 50)
    functions = {
        "nvmlInit": lambda: None, "nvmlDeviceGetHandleByIndex": lambda index: "card",
        "nvmlSystemGetDriverVersion": lambda: b"580.1", "nvmlDeviceGetName": lambda card: "A Card",
        "nvmlDeviceGetEnforcedPowerLimit": lambda card: 350_000, "nvmlDeviceGetEccMode": lambda card: [1, 1],
        "nvmlDeviceGetMaxClockInfo": lambda card, type: 1980,
        "nvmlDeviceGetClockInfo": lambda card, type: {pynvml.NVML_CLOCK_SM: 1700, pynvml.NVML_CLOCK_MEM: 2600}[type],
        "nvmlDeviceGetTemperature": lambda card, sensor: 61, "nvmlDeviceGetPowerUsage": lambda card: 349_500,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda card: next(looks)}
    for name, function in functions.items():
        real, ours = (inspect.signature(made).parameters for made in (getattr(pynvml, name), function))
        assert len(real) == len(ours), name
    constants = {"NVMLError": Fault, **{name: getattr(pynvml, name) for name in
                                        ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU")}}
    return types.SimpleNamespace(**{**functions, **constants, **changes})


def fails(*_):
    raise Fault("Not Supported")


def test_names_that_only_other_drivers_or_the_memory_sampler_ask_for():
    for name in ("nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetMemoryInfo"):
        assert callable(getattr(pynvml, name))


@pytest.mark.parametrize("bit, name", EVENT_REASONS.items())
def test_event_reasons_are_the_packages(bit, name):
    words = {"idle": "GpuIdle", "applications_clocks": "ApplicationsClocksSetting",
             "display_clocks": "DisplayClockSetting", "hw_power_brake": "HwPowerBrakeSlowdown"}
    theirs = words.get(name) or "".join(word.capitalize() for word in name.split("_"))
    assert getattr(pynvml, f"nvmlClocksEventReason{theirs}") == bit


def test_every_event_reason_is_named():
    assert sum(EVENT_REASONS) == pynvml.nvmlClocksEventReasonAll and set(THROTTLING) <= set(EVENT_REASONS.values())


def test_facts_of_a_card():
    assert Gpu(fake_nvml()).facts() == {"name": "A Card", "driver": "580.1", "power_limit_w": 350.0, "ecc": True,
                                        "max_sm_mhz": 1980}


def test_samples_of_a_card():
    with Sampler(Gpu(fake_nvml()), seconds=60) as sampler:
        pass
    gpu = sampler.summary()["gpu"]
    assert gpu["sm_mhz"] == {"min": 1700, "median": 1700, "max": 1700}
    assert gpu["power_w"]["max"] == 349.5 and gpu["temperature_c"]["max"] == 61
    assert gpu["events"] == {"sw_power_cap": 0.5, "idle": 0.5} and gpu["throttled"] is True
    assert sampler.summary()["looks"] == 2


def test_idle_is_no_throttling():
    nvml = fake_nvml(nvmlDeviceGetCurrentClocksEventReasons=lambda card: 0x1)
    with Sampler(Gpu(nvml), seconds=60) as sampler:
        pass
    assert sampler.summary()["gpu"]["throttled"] is False


def test_what_a_card_does_not_tell_is_a_text():
    gpu = Gpu(fake_nvml(nvmlDeviceGetEccMode=fails, nvmlDeviceGetPowerUsage=fails,
                        nvmlDeviceGetCurrentClocksEventReasons=fails))
    assert gpu.facts()["ecc"] == "not available: Not Supported"
    with Sampler(gpu, seconds=60) as sampler:
        pass
    summary = sampler.summary()["gpu"]
    assert summary["power_w"] == "not available: Not Supported" and summary["sm_mhz"]["median"] == 1700
    assert summary["events"].startswith("not available") and summary["throttled"] is None


def test_machine_without_a_card():
    gpu = Gpu(fake_nvml(nvmlInit=fails))
    assert gpu.facts() == "not available: NVML: Not Supported"
    with Sampler(gpu, seconds=60) as sampler:
        pass
    summary = sampler.summary()
    assert summary["gpu"] == "not available: NVML: Not Supported"
    assert summary["load_average"]["min"] >= 0 and summary["looks"] == 2


def test_spread():
    assert spread([3, 1, 2]) == {"min": 1, "median": 2, "max": 3}
    assert spread(["not available: x"]) == "not available: x"
    assert spread([]) == "not available: no sample was taken"


@pytest.mark.parametrize("path, family", [
    ("/a/libcublas.so.12", ("cuBLAS", "12")), ("/a/libcublasLt.so.12.4.5", ("cuBLAS", "12.4.5")),
    ("/a/libcudart.so.11.8.89", ("CUDA runtime", "11.8.89")), ("/a/libcuda.so.580.1", ("CUDA driver", "580.1")),
    ("/a/libcudnn_ops.so.9", ("cuDNN", "9")), ("/a/libgomp-a34b3233.so.1.0.0", ("OpenMP", "1.0.0")),
    ("/a/libmklml_intel.so", ("MKL", "")), ("/a/libdnnl.so.3", ("oneDNN", "3")),
    ("/a/libopenblas64_p-r0-0cf96a72.3.23.dev.so", None), ("/a/libc.so.6", None), ("/a/libcudagraph.so", None)])
def test_library_names(path, family):
    assert family_of(path) == family


def test_each_of_cublas_answers_for_itself(tmp_path):
    for name, ask, major in (("libcublas.so.13", "cublasGetProperty", 13),
                             ("libcublasLt.so.12", "cublasLtGetProperty", 12)):
        code = f"int {ask}(int which, int *value) {{ *value = which ? which : {major}; return 0; }}"
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", tmp_path / name]
        subprocess.run(command, input=code, text=True, check=True)
    (tmp_path / "maps").write_text("".join(f"7f00-7f01 r-xp 0 fe:00 12   {path}\n" for path in tmp_path.glob("lib*")))
    answers = {"libcublas.so.13": "13.1.2", "libcublasLt.so.12": "12.1.2"}
    assert loaded_libraries(tmp_path / "maps") == {"cuBLAS": answers}


def test_loaded_libraries_are_those_that_are_mapped(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 12   /x/lib with space/libcudart.so.12.4.127\n"
                    "7f01-7f02 r--p 00000000 fe:00 12   /x/lib with space/libcudart.so.12.4.127\n"
                    "7f02-7f03 r-xp 00000000 fe:00 13   /x/libgomp.so.1.0.0\n7f04-7f05 rw-p 00000000 00:00 0 [heap]\n"
                    "7f06-7f07 rw-p 00000000 00:00 0\n")
    assert loaded_libraries(maps, ask=False) == {"CUDA runtime": {"libcudart.so.12.4.127": "12.4.127"},
                                                 "OpenMP": {"libgomp.so.1.0.0": "1.0.0"}}
