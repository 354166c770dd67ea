"""What make decides from the variables that it was given; the Makefile calls it while it is read.

`python3 -X utf8 scripts/variables.py --goals GOAL … --typed NAME … --inherited NAME … --values NAME=value …` prints
"error: …" in one line, what cannot be used and why, or "ok" and the words of `Decisions`. In the values a line break is
\\n and a backslash \\\\. Nothing is written. Standard library only, in any Python 3.8 or newer, as it runs before
anything is installed.
"""

import argparse
import collections
import difflib
import glob
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ANYWHERE = {"help", "doctor", "clean"}  # goals that need nothing
OUT_GOALS = ("checkpoint convert quantize export export-vision export-language export-stock infer baseline bench sweep "
             "compare regress reproduce history report replay").split()
ASKING = {"infer", "baseline", "bench", "sweep", "compare", "regress", "reproduce"}  # goals that look at IMAGE
COMPUTING = ASKING - {"baseline"} | {"chat", "replay"}  # goals that run graphs, for which others would be made first
MEASURING = {"bench", "sweep", "compare", "regress", "reproduce"}
READING = ASKING | {"convert", "quantize", "export", "export-vision", "export-language", "export-stock", "chat",
                    "replay"}
DTYPES = ["float32", "float16", "bfloat16"]
CHOICES = {
    "PRESET": sorted(name[:-len(".json")] for name in os.listdir(os.path.join(ROOT, "export", "presets"))),
    "DTYPE": DTYPES, "DEVICE": ["auto", "cpu", "gpu"],
    "IMPL": ["fused", "native", "stock"], "PADDLE": ["", "2.6", "3"],
}
NEEDED = {  # goal -> what it cannot do without
    "check": {"CKPT": "the folder of the downloaded checkpoint"},
    "compare": {"BASE": "the git reference to compare with, for example BASE=HEAD~1"},
    "quantize": {"WEIGHTS": "the format to round to, for example WEIGHTS=int4"},
    "replay": {"CKPT": "the folder of the checkpoint", "CASES": "the folder of case*.npz", "OUT": "where to write"},
}
# Parts of the names of targets and commands; the first ones may be empty
READ_BY_MAKE = ("OUT", "PADDLE_OTHER_PYTHON", "BUILD", "PADDLE_PYTHON", "TORCH_PYTHON")
PATHS = {"CKPT": READING | {"check"}, "CASES": {"replay"}, "IMAGE": ASKING, "FONT": {"infer"}, "VERDICT": {"regress"}}
GREEDY = {"TEMPERATURE": 0, "REPETITION_PENALTY": 1, "MIN_NEW_TOKENS": 0}  # with these the likeliest token is taken
SAMPLING = ("TEMPERATURE", "TOP_P", "TOP_K", "REPETITION_PENALTY", "MIN_NEW_TOKENS", "SEED", "STOP")
TEXTS = ("PROMPT", "SYSTEM", "STOP")  # may have several lines
FOR_THE_BUILD = {"MARCH", "CXX"}      # what ops.build reads; make only hands it on
PLAIN = re.compile(r"[\w./+,@-]+")  # what neither make, a shell, ninja nor a compiler takes for anything else
PLAIN_ALONE = "may hold letters, digits and ./_+,@- alone, no space or other sign"
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
NO_UTF8 = re.compile("[\ud800-\udfff]")
ADDRESS = re.compile("(https?|file|data):", re.IGNORECASE)

# name: what the folders built from the checkpoint are called; device: "cpu" or "gpu"; packages: "python" where
# PADDLE_PYTHON is there, else "none"; environment: "stale" where .venv has to be made or brought up to date, else
# "ready"; graphs: the implementations whose graphs the arms of a benchmark run, "other" for the fused ones of another
# Paddle, joined by commas, "-" for none.
Decisions = collections.namedtuple("Decisions", "name device packages environment graphs")


def fault(values, goals, inherited=(), root=ROOT, typed=()):
    """Why the goals cannot use the values ({name: text}), None if they can; one line.

    inherited: names whose values came from the environment; typed: names on make's command line; root: the folder of
    this repository.
    """
    def said(name):
        value = values.get(name, "")
        text = ascii(value)[1:-1] if CONTROL.search(value) or NO_UTF8.search(value) else value
        return f"{name}={text}" + (" (from the environment)" if name in inherited else "")

    goals = set(goals)
    known = FOR_THE_BUILD.union(values, TEXTS)
    unknown = sorted(set(typed) - known)
    if unknown and goals != {"help"}:
        return _misspelt(unknown[0], known)
    for name, value in values.items():
        if "\n" in value and name not in TEXTS:
            return f"{name}= holds a line break{' (from the environment)' * (name in inherited)}: leave it out"
    for name in READ_BY_MAKE:
        problem = _not_plain(values[name]) if values.get(name) else (
            name not in READ_BY_MAKE[:2] and name in values and "is empty")
        if problem:
            return f"{said(name)} {problem}"
    for name, known in CHOICES.items():
        value = values.get(name, known[0])
        if value not in known and not (goals <= ANYWHERE and PLAIN.fullmatch(value)):
            return f"{said(name)} is unknown, use one of: {' '.join(filter(None, known))}"
    if values.get("WEIGHTS") and (problem := _no_weights(values, goals)):
        return f"{said('WEIGHTS')} {problem}"
    if goals <= ANYWHERE:
        return None
    if problem := place_fault(root):
        return problem
    if values.get("PADDLE") and not _uses_venv(values):
        return f"{said('PADDLE')} chooses what .venv gets, PADDLE_PYTHON= has its own: leave one of them out"
    if goals & COMPUTING and (problem := _no_device(values.get("DEVICE", "auto"), values.get("DTYPE", "float32"))):
        return problem
    for goal in sorted(goals & set(NEEDED)):
        for name, meaning in NEEDED[goal].items():
            if not values.get(name):
                return f"{name}= is missing: {goal} needs {meaning}"
    if values.get("OUT") and len(goals & set(OUT_GOALS)) != 1:
        return (f"{said('OUT')} says where one target writes to: leave it out, or give exactly one of "
                f"{' '.join(OUT_GOALS)}")
    if values.get("IMPL") == "stock" and (problem := _not_stock(values, goals)):
        return problem
    if values.get("IMPL") == "native" and goals & {"infer", "chat"} and (problem := _draws(values)):
        return problem
    for name, users in PATHS.items():
        if values.get(name) and goals & users and (problem := _no_path(name, values[name])):
            return f"{said(name)} {problem}"
    if values.get("CKPT") and goals & READING and not any(  # the readers say what a folder with only the second is
            os.path.isfile(os.path.join(values["CKPT"], name)) for name in ("config.json", "adapter_config.json")):
        return f"{said('CKPT')} has no config.json: give the folder of a Qwen-VL checkpoint"
    arms = values.get("ARMS", "").split(",") if "bench" in goals else []
    if "paddle-other" in arms and not values.get("PADDLE_OTHER_PYTHON"):
        return f"{said('ARMS')}: paddle-other wants another Paddle: set PADDLE_OTHER_PYTHON= to its interpreter"
    for name in ("PADDLE_PYTHON", "TORCH_PYTHON", "PADDLE_OTHER_PYTHON"):
        if values.get(name) and not values[name].startswith(".venv/") and not shutil.which(values[name]):
            return f"{said(name)} cannot be run: give an interpreter that has the packages"
    return None


def has_gpu():
    """Whether this machine may have an NVIDIA GPU."""
    return bool(glob.glob("/dev/nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


def _no_device(device, dtype):
    if device == "gpu" and not has_gpu():
        return "DEVICE=gpu: there is no NVIDIA GPU here: use DEVICE=cpu"
    if dtype != "float32" and (device == "cpu" or not has_gpu()):
        return f"DTYPE={dtype} is for GPUs, the CPU computes in float32 only: leave it out"
    return None


def _misspelt(name, known):
    near, = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0)
    return (f"{name}= is no variable of this Makefile, the nearest is {near}=: `make help` lists them (what another "
            f"program reads stands before make: {name}=… make)")


def _draws(values):
    drawn = [name for name, neutral in GREEDY.items() if values.get(name) and _number(values[name]) != neutral]
    return drawn and f"IMPL=native takes the likeliest token: leave out {' '.join(drawn)}, or use IMPL=fused"


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def place_fault(root):
    """Why no target can build in a repository in this folder; None where all can."""
    if PLAIN.fullmatch(root):
        return None
    return f"this repository lies in {ascii(root)[1:-1]}, a path that {PLAIN_ALONE}: move it to another folder"


def _not_plain(value):
    if value.startswith("-") or value.startswith("~") or not PLAIN.fullmatch(value):
        return f"{PLAIN_ALONE}: use another path or a link to it"
    return None


def _no_path(name, value):
    if value.startswith("~"):
        return "has a ~ that the shell left as it is: write the path out"
    if value.startswith("-"):
        return "would be taken for an option: put ./ before it"
    if CONTROL.search(value):
        return "holds a line break or another control character: rename it"
    if name != "IMAGE" and NO_UTF8.search(value):
        return "is no UTF-8: rename it, or make a link to it"
    if name == "CASES" and not os.path.isdir(value):
        return "is no folder"
    if name == "IMAGE" and not ADDRESS.match(value) and not os.path.isfile(value):
        return "is no file"
    return None


def _no_weights(values, goals):
    """Why WEIGHTS, which is not empty, cannot be used; what shapes and the card forbid is said on loading."""
    weights, known = values["WEIGHTS"], formats()
    if weights == "auto" or goals <= ANYWHERE and PLAIN.fullmatch(weights):
        return None
    names = weights.split("+")
    if len(names) > 2 or not set(names) <= set(known):   # a part of the names of targets
        return f"is unknown, use auto, one of {' '.join(known)}, or those of decoder and head with a + between"
    if "baseline" in goals:
        return "changes nothing for baseline, a PyTorch model: leave it out"
    if len(names) > 1 and (others := sorted(goals & (MEASURING | {"quantize"}))):
        return f"names two formats, {' '.join(others)} takes one: leave out +{names[1]}"
    dtype = values.get("DTYPE", "float32")
    others = [name for name in names if name in DTYPES and name != dtype]
    if others and goals & COMPUTING:
        return f"is another type than DTYPE={dtype}: use {dtype} instead of {others[0]}, or leave WEIGHTS= out"
    if values.get("IMPL", "fused") != "fused" and goals & {"infer", "chat", "replay", "compare", "regress"}:
        return f"is for the fused graphs: leave out IMPL={values['IMPL']}"
    return None


def formats(root=ROOT):
    """Names of the weight formats, which are the folders that the registry has a line for (ops/formats)."""
    with open(os.path.join(root, "ops", "formats", "registry.h"), encoding="utf-8") as file:
        return re.findall(r'^#include "ops/formats/(\w+)/format\.h"$', file.read(), re.MULTILINE)


def _not_stock(values, goals):
    others = goals & {"export", "export-vision", "export-language", "chat", "compare", "regress", "replay"}
    if others:
        return f"IMPL=stock is for infer, not for {' '.join(sorted(others))}: export-stock makes its graphs"
    if "infer" in goals and any(values.get(name) for name in SAMPLING):
        return f"IMPL=stock takes the likeliest token: leave out {' '.join(SAMPLING)}, or use IMPL=fused"
    if "infer" in goals and values.get("OUT"):
        return "IMPL=stock draws no boxes: leave out OUT=, or use IMPL=fused"
    return None


def decide(values, goals):
    """The Decisions for values that have no fault."""
    goals = set(goals)
    name = folder_name(values["CKPT"]) if values.get("CKPT") else values["PRESET"]
    packages = not goals <= {"help", "clean"} and shutil.which(values["PADDLE_PYTHON"]) is not None
    device = values["DEVICE"]
    if device == "auto":
        # This is PADDLE_PYTHON where that is there. Weights that the GPU's kernels take are of 16 bits.
        half = packages and values["DTYPE"] != "float32"
        device = "gpu" if half and os.path.exists("/dev/nvidia0") and _has_gpu_wheel() else "cpu"
    stale = not goals <= ANYWHERE and _environment_is_stale(values)
    other = ",paddle-other" if values.get("PADDLE_OTHER_PYTHON") else ""
    arms = (values.get("ARMS") or f"paddle-fused{f',paddle-native{other}' * ('sweep' not in goals)}").split(",")
    if goals & {"bench", "sweep"} and values.get("WEIGHTS", "") not in ("", "auto"):
        arms.append("paddle-fused")   # whose graphs the arm reads that bench adds
    graphs = [impl for impl in ("native", "fused", "stock", "other")
              if any(f"{arm}-".startswith(f"paddle-{impl}-") for arm in arms)]
    return Decisions(name, device, "python" if packages else "none", "stale" if stale else "ready",
                     ",".join(graphs) or "-")


def _has_gpu_wheel():
    try:
        return bool(importlib.metadata.version("paddlepaddle-gpu"))
    except importlib.metadata.PackageNotFoundError:
        return False


def _uses_venv(values):
    return any(values.get(name, "").startswith(".venv/") for name in ("PADDLE_PYTHON", "TORCH_PYTHON"))


def _environment_is_stale(values):
    """Whether one of the interpreters is of .venv, and that has to be made or brought up to date."""
    if not _uses_venv(values):
        return False
    given = {name: values.get(name, "") for name in ("DEVICE", "PYTHON", "PADDLE")}
    return bool(subprocess.run([os.path.join(ROOT, "scripts", "setup.sh"), "--check"], env={**os.environ, **given},
                               stdout=subprocess.PIPE).stdout)


def folder_name(checkpoint):
    """What the folders built from a checkpoint are called: its folder's name, and a hash of its real path.

    Short enough for what is added to it, and not taken for an option.
    """
    path = os.path.realpath(checkpoint)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    name = re.sub("^-|[^A-Za-z0-9._+-]", "_", os.path.basename(path))[:100]
    return f"{name or '_'}-{digest}"


def main():
    parser = argparse.ArgumentParser()
    for name in ("--goals", "--typed", "--inherited", "--values"):
        parser.add_argument(name, nargs="*", default=[])
    options = parser.parse_args()
    values = dict(_unescaped(value).split("=", 1) for value in options.values)
    problem = fault(values, options.goals, options.inherited, typed=options.typed)
    said = f"error: {problem}" if problem else " ".join(["ok", *decide(values, options.goals)])
    sys.stdout.buffer.write(os.fsencode(said))


def _unescaped(text):
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


if __name__ == "__main__":
    main()
