"""Under which conditions a row was measured."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

import psutil
import xxhash

from bench.conditions import cpu_mhz, not_available
from bench.git import ROOT, git, is_changed
from core.errors import UserError
from core.files import file_hash
from core.text import shell_line

WRITTEN_BY_RUNS = (":(exclude)results", ":(exclude)README.md")
HOST = "QWEN_VL_HOST"
UNNAMED_PADDLE = "2.6.2"        # of the machines whose name tells none, as of all results from before names told it
MAKE_COMMAND = "QWEN_VL_MAKE"   # variable with a goal of make and the names of the variables that were typed


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.partition(":")[2].strip() for line in f if line.startswith("model name")),
                    platform.machine())


def physical_cores():
    """Cores that this process may use, hyper-threads not counted."""
    allowed = len(os.sched_getaffinity(0))
    return min(psutil.cpu_count(logical=False) or allowed, allowed)


def governor():
    """The frequency governor of the first core, or why it is not known."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="ascii").strip()
    except OSError:
        return not_available("this machine has no frequency governor to read")


def host():
    """Which machine this is, without saying its name: 8 hexadecimal digits.

    $QWEN_VL_HOST names one whose own name changes, as that of a container does.
    """
    name = os.environ.get(HOST) or platform.node()
    return xxhash.xxh3_64(name.encode(errors="surrogateescape")).hexdigest()[:8]


def portable_path(text, label):
    """A path as it is from the repository's root, or <label> where it lies elsewhere; any other text as it is."""
    absolute = text.startswith(("/", "~", "../")) or text == ".."
    if not absolute and ":/" not in text:
        return text
    path = Path(text).expanduser().resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else f"<{label}>"


def portable(argv):
    """`argv` without the places of this machine: <checkpoint> stands for what followed --checkpoint or CHECKPOINT=.

    Prompts are kept as they are.
    """
    words, option = [], "path"
    for word in argv:
        name, equals, value = word.partition("=")
        if option == "prompt" or name == "PROMPT":
            words.append(word)
        elif equals and re.fullmatch(r"[\w-]+", name):
            words.append(f"{name}={portable_path(value, name.lstrip('-').lower())}")
        else:
            words.append(portable_path(word, option))
        option = word[2:] if word.startswith("--") and not equals else option if option.endswith("env") else "path"
    return words


def without_paths(text):
    """A reason without the places of this machine: of an absolute path the end, or what follows the repository's."""
    def shortened(match):
        path = Path(match[0])
        return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else f"…/{path.name}"
    return re.sub(r"(?<![\w.…>])/[^\s/:'\"(),;]+(?:/[^\s/:'\"(),;]+)+", shortened, text)


def asked_for(argv):
    """What the user typed: the make command that the Makefile hands down, else `argv`; see `portable`."""
    goal, *names = os.environ.get(MAKE_COMMAND, "").split() or [""]
    typed = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    return portable(["make", goal, *typed] if goal else argv)


def repro_command(argv, git):
    """A line for the repository's root that measures the same again, once its <placeholders> are filled in."""
    command = shell_line(asked_for(argv))
    return f"git checkout {git['sha']} && {command}" if git["sha"] and not git["dirty"] else command


def git_state():
    """{"sha", "dirty"} of this repository, what runs write makes nothing dirty; {"sha": None, "dirty": None, "reason"}
    where git does not say."""
    try:
        return {"sha": git("rev-parse", "HEAD"), "dirty": is_changed(".", *WRITTEN_BY_RUNS)}
    except UserError as e:
        return {"sha": None, "dirty": None, "reason": without_paths(str(e))}


def checkpoint_identity(checkpoint, exported_dirs):
    """{"hash", "synthetic", "seed"} of the weights that all arms share; `seed` made synthetic ones, else None.

    `checkpoint` is an open export.checkpoint.Checkpoint; the hash is the one that exports carry in their manifests.
    Raises UserError when an export was made from other weights.
    """
    hashes = {str(checkpoint.path): checkpoint.hash()}
    exports = {}
    for folder in exported_dirs:
        for path in sorted(Path(folder).glob("*/manifest.json")):
            try:
                exports[str(path.parent)] = manifest = json.loads(path.read_text(encoding="utf-8"))
                hashes[str(path.parent)] = manifest["checkpoint"]["hash"]
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(f"{path} is no manifest of an export: delete {path.parent}, then run make "
                                "again") from None
    if len(set(hashes.values())) > 1:
        own = hashes[str(checkpoint.path)]
        remedies = dict.fromkeys(export_again(checkpoint.path, folder, manifest) for folder, manifest in exports.items()
                                 if hashes[folder] != own)
        raise UserError(f"{', '.join(hashes)} hold different weights: run {' and '.join(remedies)}")
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    return {"hash": hashes[str(checkpoint.path)], "synthetic": checkpoint.synthetic,
            "seed": config.get("synthetic", {}).get("seed")}


def export_again(checkpoint, folder, manifest):
    """The command that makes an exported graph's folder again from `checkpoint`."""
    if manifest.get("impl") == "stock" or Path(folder).parent.name.startswith("stock-"):
        return "`make export-stock` with the same CKPT= (or PRESET=) and DTYPE="
    command = ["python", "-m", "export", Path(folder).name, str(checkpoint), str(Path(folder).parent)]
    for option in ("dtype", "impl"):
        command += [f"--{option}", str(manifest.get(option))]
    return f"`{shell_line(command)}`"


def collect(argv, threads, checkpoint, image, gpu):
    """What holds for all arms of one run before it begins.

    checkpoint: a checkpoint_identity; image: a path; gpu: the bench.conditions.Gpu that the arms run on.

    What happens while it runs is `during`, a bench.conditions.Sampler's summary, which the run adds.
    """
    git = git_state()
    return {
        "argv": portable(argv), "repro": repro_command(argv, git), "git": git,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": host(), "platform": platform.platform(), "cpu": cpu_model(), "cores": physical_cores(),
        "threads": threads, "governor": governor(), "cpu_mhz": cpu_mhz(), "load_average": os.getloadavg()[0],
        "memory_mib": psutil.virtual_memory().total >> 20, "gpu": gpu.facts(), "paddle": paddle_version(),
        "checkpoint": checkpoint, "image": {"name": Path(image).name, "xxh3_128": file_hash(image)},
        "seeds": {"weights": checkpoint.get("seed"), "decoding": "greedy: none"},
    }


def paddle_version():
    """The version of this interpreter's Paddle, of either wheel; None without one."""
    for wheel in ("paddlepaddle-gpu", "paddlepaddle"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(wheel)
    return None


def machine_name(conditions, device_name):
    """Folder name of a machine: its GPU if that was used, or its CPU and number of cores; and its Paddle."""
    name = device_name or f"{conditions['cpu']} {conditions['cores']} cores"
    paddle = conditions.get("paddle") or UNNAMED_PADDLE
    name += f" paddle {paddle}" * (paddle != UNNAMED_PADDLE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def preset_name(text):
    """`text` as part of a folder's name: letters, digits and ._+- stay, "-" stands for anything else."""
    return re.sub(r"[^\w.+-]+", "-", text)
