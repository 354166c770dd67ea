"""What this machine has and which targets will work, with the remedy where one will not: `make doctor`.

Needs no package beyond the standard library, so that it runs before `make setup`.
"""

import json
import math
import os
import platform
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

from core.config import ModelConfig
from core.errors import UserError, run_cli
from core.machine import memory
from core.text import escaped, one_line
from ops.build import source_version
from ops.weights import parameter_shapes

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
DISK_FOR_SETUP = 12 * GIB  # the packages, pip's copies of them, and the build folder of the default preset
SHOWN = ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "torch", "transformers", "numpy", "tiktoken", "Pillow")


def output(*command, partial=False):
    """Standard output of a command, stripped; "" when it is missing, takes longer than a minute, or fails (then
    `partial` asks for what it printed)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if partial or done.returncode == 0 else ""


def read(path):
    """Text of a file, "" when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def first_line(text):
    return text.splitlines()[0] if text else ""


def cpu():
    """Model, physical cores and threads that this process may use, as one text."""
    info = read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", info)
    cores = {block for block in re.findall(r"physical id\s*:\s*(\d+).*?core id\s*:\s*(\d+)", info, re.DOTALL)}
    vector = next((name for name in ("avx512f", "avx2", "avx") if re.search(rf"\b{name}\b", info)), "no AVX")
    return (f"{model.group(1) if model else platform.machine()}, {len(cores) or '?'} cores, "
            f"{len(os.sched_getaffinity(0))} threads usable, {vector}")


def gpus():
    """Lines of name, memory, driver and compute capability, one per GPU."""
    return output("nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap",
                  "--format=csv,noheader").splitlines()


def wheels(python):
    """{package: installed version} of an interpreter; {} when it cannot be run."""
    code = ("import importlib.metadata as m, json\n"
            "print(json.dumps({(d.metadata['Name'] or '').lower().replace('_', '-'): d.version"
            " for d in m.distributions()}))")
    return json.loads(output(python, "-c", code) or "{}")


def pins():
    """{package: version} of requirements.txt."""
    found = re.findall(r"^([\w-]+)==(\S+)", read(ROOT / "requirements.txt"), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def unmet(found, gpu):
    """Packages of requirements.txt that are missing or of another version, as texts."""
    faults = []
    for name, version in pins().items():
        if name == "paddlepaddle" and ("paddlepaddle-gpu" in found or gpu):
            name = "paddlepaddle-gpu"
        has = found.get(name, "").split("+")[0]
        if has != version:
            faults.append(f"{name} {has or 'missing'} instead of {version}")
    return faults


def model():
    """(what, bytes of the float32 weights) of CKPT, else of PRESET; (what, None) when its config cannot be read."""
    checkpoint, preset = os.environ.get("CKPT"), os.environ.get("PRESET") or "small"
    what = f"CKPT={checkpoint}" if checkpoint else f"PRESET={preset}"
    try:
        if checkpoint:
            config = ModelConfig.load(checkpoint)
        else:
            config = ModelConfig.from_dict(json.loads(read(ROOT / "export" / "presets" / f"{preset}.json")))
    except (UserError, ValueError) as e:
        return f"{what}: {e}", None
    return what, sum(4 * math.prod(shape) for graph in ("vision", "language")
                     for shape in parameter_shapes(config, graph).values())


def operators(python):
    """(usable, text) of the built operator library."""
    library = Path(os.environ.get("QWEN_VL_OPS") or ROOT / "build" / "ops" / "cpu" / "libqwen_vl_ops.so")
    if not library.is_file():
        return False, "not built"
    loaded = output(python, "-c", "from ops import library; print(library.load())")
    if not loaded:
        return False, f"{library} does not load"
    if loaded.splitlines()[-1] != source_version():
        return False, f"{library} was built from other sources"
    return True, f"built and loads, version {source_version()}"


def show(name, value):
    print(f"  {name:12} {escaped(value or 'none')}")


def main():
    python = os.environ.get("PADDLE_PYTHON") or str(ROOT / ".venv" / "bin" / "python")
    torch_python = os.environ.get("TORCH_PYTHON") or python
    gpu_wanted = os.environ.get("DEVICE") == "gpu"
    compiler = os.environ.get("CXX") or "g++"
    total, available = memory()
    free = shutil.disk_usage(ROOT).free
    cards = gpus()

    print("This machine")
    show("system", f"{platform.platform()}")
    show("processor", cpu())
    show("memory", f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB available")
    show("free disk", f"{free / GIB:.1f} GiB in {ROOT}")
    show("Python", f"{platform.python_version()} (this one)")
    interpreter = output(str(ROOT / "scripts" / "setup.sh"), "--find")
    show("for .venv", interpreter)
    show("compiler", first_line(output(compiler, "--version")))
    show("make", first_line(output("make", "--version")))
    show("nvcc", output("nvcc", "--version").splitlines()[-1:][0] if output("nvcc", "--version") else "")
    for card in cards or [""]:
        show("GPU", card)

    print("Environment")
    found = wheels(python)
    for name in SHOWN:
        if name in ("torch", "transformers") and torch_python != python:
            continue
        if name.lower() in found or name != "paddlepaddle-gpu":
            show(name, found.get(name.lower(), "not installed"))
    torch_found = wheels(torch_python) if torch_python != python else found
    if torch_python != python:
        show("torch", torch_found.get("torch", "not installed"))
        show("transformers", torch_found.get("transformers", "not installed"))
    usable, ops = operators(python) if found else (False, "cannot be checked without packages")
    show("operators", ops)

    compiler_fault = None if shutil.which(compiler) else f"no C++ compiler ({compiler}): apt install g++"
    setup_fault = compiler_fault
    if not found:
        if not interpreter:
            setup_fault = "no Python 3.11 or 3.12 with venv: apt install python3.11-venv (or python3.12-venv)"
        elif free < DISK_FOR_SETUP:
            setup_fault = f"{free / GIB:.1f} GiB of disk are free, {DISK_FOR_SETUP / GIB:.0f} are needed"
    differs = unmet(found, gpu_wanted) if python == torch_python else []
    environment_fault = None
    if not found:
        environment_fault = "no packages yet: make setup (every target runs it by itself)"
    elif differs:
        environment_fault = f"{'; '.join(differs[:3])}{' …' * (len(differs) > 3)}: make setup"
    blocked = setup_fault if environment_fault and setup_fault else None
    what, weights = model()
    if weights is None:
        model_fault = what
    elif available and weights > available:
        model_fault = (f"{what} has {weights / GIB:.1f} GiB of float32 weights, {available / GIB:.1f} GiB of memory "
                       "are available: use a smaller PRESET=")
    else:
        model_fault = None
    gpu_fault = None
    if not cards:
        gpu_fault = "no NVIDIA GPU answers to nvidia-smi: use DEVICE=cpu"
    elif "paddlepaddle-gpu" not in found:
        gpu_fault = "the GPU wheel of Paddle is not installed: make setup DEVICE=gpu"

    if usable:
        print("Operators against plain layers in fp32 on the CPU")
        device = "gpu" if not gpu_fault else "cpu"
        print(textwrap.indent(output(python, "-m", "ops.selfcheck", "--device", device, partial=True) or
                              f"the check on the {device} did not run to its end", "  "))

    print("What will work")
    verdict = {
        "setup": setup_fault,
        "ops": compiler_fault or blocked,
        "check": blocked, "checkpoint": blocked, "convert": blocked,
        "export": compiler_fault or blocked,
        "infer": compiler_fault or blocked or model_fault,
        "baseline": blocked or model_fault,
        "bench": compiler_fault or blocked or model_fault,
        "report": blocked,
        "replay": compiler_fault or blocked,
        "test": compiler_fault or blocked,
        "lint": blocked,
        "DEVICE=gpu": gpu_fault,
    }
    for target, fault in verdict.items():
        print(f"  {'no ' if fault else 'yes'} {target:12} {one_line(fault or '')}".rstrip())
    notes = [environment_fault, None if usable or environment_fault else f"operators: {ops}: make ops (automatic)"]
    for note in filter(None, notes):
        print(f"  note: {note}")


if __name__ == "__main__":
    run_cli(main)
