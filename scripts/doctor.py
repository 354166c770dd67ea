"""What this machine has and which targets will work, with the remedy where one will not: `make doctor`.

Needs no package beyond the standard library, so that it runs before `make setup`.
"""

import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from core.config import ModelConfig
from core.errors import NO, UserError, run_cli
from core.machine import memory
from core.text import escaped, one_line, plural
from ops import compiler, cuda_libraries, target
from ops.build import ROOT, source_version
from ops.weights import parameter_shapes
from scripts import variables

GIB = 1 << 30
# the packages, pip's copies of them, and the build folder of the default preset
DISK_FOR_SETUP = {"cpu": 12 * GIB, "gpu": 18 * GIB}
SHOWN = ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "torch", "transformers", "numpy", "tiktoken", "Pillow")
FOR_STOCK = "2.6.2"  # the Paddle that paddlenlp 2.8.1 runs on
NEVER_RUN = "a GPU wheel of Paddle 3 was never run with this: compare its answers with the CPU's"
NO_GPU_WHEEL = "the GPU wheel of Paddle is not installed: make setup DEVICE=gpu"


def output(*command):
    """Standard output of a command, stripped; "" when it is missing, takes longer than a minute, or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def said(*command):
    """The last line that a command that fails writes to standard error."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    return (done.stderr.strip().splitlines() or ["it says nothing"])[-1]


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
    return (f"{model.group(1) if model else platform.machine()}, {plural(len(cores) or '?', 'core')}, "
            f"{plural(len(os.sched_getaffinity(0)), 'thread')} usable, {vector}")


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
    """{package: version} of the files of requirements that set-up takes here."""
    files = ["requirements-common.txt", output(str(ROOT / "scripts" / "setup.sh"), "--pins")]
    pairs = re.findall(r"^([\w-]+)==(\S+)", "\n".join(read(ROOT / name) for name in files), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def unmet(installed, gpu):
    """Packages of these that are missing or of another version, as texts."""
    faults = []
    for name, version in pins().items():
        if name == "paddlepaddle" and ("paddlepaddle-gpu" in installed or gpu):
            name = "paddlepaddle-gpu"
        version_here = installed.get(name, "").split("+")[0]
        if version_here != version:
            faults.append(f"{name} {version_here or 'missing'} instead of {version}")
    return faults


def libraries(python):
    """{name: path or None} of the CUDA libraries that Paddle's GPU wheel would get in an interpreter."""
    return json.loads(output(python, "-m", "ops.cuda_libraries") or "{}")


def nvcc(python):
    """The nvcc that an interpreter would build kernels with, and its version, as one text; "" if there is none."""
    path = output(python, "-c", "from ops import toolchain; print(toolchain.find_nvcc() or '')")
    release = re.search(r"V(\d[\d.]*)", output(path, "--version")) if path else None
    return f"{path}, {release[1]}" if release else path


def raised(check, *arguments):
    """What a check says is wrong, or None."""
    try:
        check(*arguments)
    except UserError as e:
        return str(e)
    return None


def gpu_fault(cards, installed, torch_installed, cuda_paths):
    """Why DEVICE=gpu will not work, or None; `installed` and `torch_installed` are the wheels of both interpreters."""
    if not cards:
        return "no NVIDIA GPU answers to nvidia-smi: use DEVICE=cpu"
    if "paddlepaddle-gpu" not in installed:
        return NO_GPU_WHEEL
    if torch_installed.get("torch", "").endswith("+cpu"):
        return f"torch {torch_installed['torch']} is a build for the CPU: make setup DEVICE=gpu"
    return raised(cuda_libraries.check, cuda_paths)


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


def operators(installed, card):
    """(fault, what is built, device) of the operator library: texts, fault None where it is for this machine, and
    "cpu", or "gpu" where it has kernels for one.

    installed: the interpreter's wheels; card: compute capability (major, minor) of the GPU, None if none can be used.
    """
    library = Path(os.environ.get("QWEN_VL_OPS") or ROOT / "build" / "ops" / "cpu" / "libqwen_vl_ops.so")
    if not library.is_file():
        return "not built", None, "cpu"
    built = target.read(library)
    device = "gpu" if card and built.get("architectures") else "cpu"
    wheel = next((f"{name} {installed[name]}" for name in ("paddlepaddle-gpu", "paddlepaddle") if name in installed),
                 None)
    fault = target.fault(built, wheel, card if device == "gpu" else None)
    if fault is None and built["sources"] != source_version():
        fault = "was built from other sources"
    if fault:
        return f"{library} {fault}", None, device
    code = f", {target.code_for(built, card)} for the GPU" if device == "gpu" else ""
    return None, f"built for {built['march']}{code}, by {built['compiler']}, version {built['sources']}", device


def self_check(python, device):
    """(fault, lines) of ops.selfcheck on the device; fault None if our operators load and are right there."""
    try:
        done = subprocess.run([python, "-m", "ops.selfcheck", "--device", device], capture_output=True, text=True,
                              errors="replace", timeout=120, cwd=ROOT)
    except (OSError, subprocess.SubprocessError) as e:
        return f"the operators' check on the {device} did not end ({type(e).__name__}): make ops", ""
    if done.returncode == 0:
        return None, done.stdout
    if done.returncode == NO:
        return f"operators give wrong results on the {device} (see above): use another DEVICE=", done.stdout
    reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1].removeprefix("error: ")
    if done.returncode < 0:
        reason = f"killed by {signal.Signals(-done.returncode).name}"
    return f"the operators' check on the {device} failed ({reason}): make ops", done.stdout


def show(name, value):
    print(f"  {name:12} {escaped(value or 'none')}")


def main():
    python = os.environ.get("PADDLE_PYTHON") or str(ROOT / ".venv" / "bin" / "python")
    torch_python = os.environ.get("TORCH_PYTHON") or python
    gpu_wanted = os.environ.get("DEVICE") == "gpu"
    try:
        compiler_fault, cxx = None, compiler.find()
    except UserError as e:
        compiler_fault, cxx = str(e), None
    total, available = memory()
    free = shutil.disk_usage(ROOT).free
    cards = gpus()

    print("This machine")
    show("system", platform.platform())
    show("processor", cpu())
    show("memory", f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB available")
    show("free disk", f"{free / GIB:.1f} GiB in {ROOT}")
    show("Python", f"{platform.python_version()} (this one)")
    interpreter = output(str(ROOT / "scripts" / "setup.sh"), "--find")
    show("for .venv", interpreter)
    show("compiler", cxx and f"{cxx}: {cxx.version}")
    show("make", first_line(output("make", "--version")))
    show("nvcc", nvcc(python) or nvcc(sys.executable))
    for card in cards or [""]:
        show("GPU", card)
    driver = cuda_libraries.driver_cuda()
    show("GPU driver", driver and f"runs CUDA {driver[0]}.{driver[1]} and older")

    print("Environment")
    installed = wheels(python)
    for name in SHOWN:
        if name in ("torch", "transformers") and torch_python != python:
            continue
        if name.lower() in installed or name != "paddlepaddle-gpu":
            show(name, installed.get(name.lower(), "not installed"))
    torch_installed = wheels(torch_python) if torch_python != python else installed
    if torch_python != python:
        show("torch", torch_installed.get("torch", "not installed"))
        show("transformers", torch_installed.get("transformers", "not installed"))
    cuda_paths = libraries(python) if gpu_wanted or "paddlepaddle-gpu" in installed else {}
    for name, path in cuda_paths.items():
        show(name, path or "missing")
    setup_fault = compiler_fault or (raised(cuda_libraries.check_driver) if gpu_wanted else None)
    needed = DISK_FOR_SETUP["gpu" if gpu_wanted else "cpu"]
    if not installed:
        if not interpreter:
            setup_fault = said(str(ROOT / "scripts" / "setup.sh"), "--find").removeprefix("error: ")
        elif free < needed:
            setup_fault = f"{free / GIB:.1f} GiB of disk are free, {needed / GIB:.0f} are needed"
    differs = unmet(installed, gpu_wanted) if python == torch_python else []
    environment_fault = None
    if not installed:
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
    no_gpu = gpu_fault(cards, installed, torch_installed, cuda_paths)

    card = None if no_gpu else tuple(map(int, cards[0].rpartition(",")[2].split(".")))
    ops_fault, ops, device = "cannot be checked without packages", None, "cpu"
    if installed:
        ops_fault, ops, device = operators(installed, card)
    show("operators", ops or ops_fault)
    check_fault = None
    if ops:
        print("Operators against plain layers in fp32 on the CPU")
        check_fault, lines = self_check(python, device)
        print(textwrap.indent(lines.rstrip() or check_fault, "  "))
    # what is built serves as it is; else make builds it
    operators_fault = check_fault or (None if ops else compiler_fault)

    print("What will work")
    making = operators_fault or blocked
    running = making or model_fault
    stock_fault = None if "paddlepaddle-gpu" in installed else NO_GPU_WHEEL
    paddle = installed.get("paddlepaddle-gpu") or installed.get("paddlepaddle") or FOR_STOCK
    if paddle != FOR_STOCK:
        stock_fault = f"paddlenlp 2.8.1 needs Paddle {FOR_STOCK}, {paddle} is installed: make setup PADDLE=2.6"
    verdict = {
        "setup": setup_fault, "ops": compiler_fault or blocked,
        "check": blocked, "checkpoint": blocked, "convert": blocked, "quantize": blocked,
        "export": making, "export-stock": blocked or stock_fault,
        "infer": running, "chat": running, "baseline": blocked or model_fault,
        "bench": running, "sweep": running, "compare": running, "regress": running, "reproduce": running,
        "replay": making,
        "history": blocked, "report": blocked, "test": making, "lint": blocked, "DEVICE=gpu": no_gpu,
    }
    misplaced = variables.place_fault(str(ROOT))
    for goal, fault in verdict.items():
        fault = misplaced if misplaced and goal not in variables.ANYWHERE else fault
        print(f"  {'no ' if fault else 'yes'} {goal:12} {one_line(fault or '')}".rstrip())
    notes = [environment_fault or ops_fault and f"operators: {ops_fault}: make ops (automatic)",
             NEVER_RUN if installed.get("paddlepaddle-gpu", FOR_STOCK) != FOR_STOCK else None]
    for note in filter(None, notes):
        print(f"  note: {note}")


if __name__ == "__main__":
    run_cli(main)
