"""What a run is asked for, composed of parts: the case, the sources, the limits, further cases.

Each part is a frozen dataclass and a group of the command line. A field is an option: name, default and help are stated
once. A command takes the parts, or the options of a part, that it has (`add`); all others keep their defaults (`read`).
"""

import argparse
import math
import os
import sys
from dataclasses import dataclass, field, fields, is_dataclass

from bench.arms import ARMS, QUANTISED
from bench.provenance import physical_cores
from core.placement import CHOICES, DTYPES
from infer.image import default_image
from infer.prompt import BENCHMARK_PROMPT
from ops import formats

FRAMEWORKS = tuple(dict.fromkeys(spec.framework for spec in ARMS.values()))
EXPORTS = tuple(dict.fromkeys(spec.source for spec in ARMS.values() if spec.source != "checkpoint"))


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def natural(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def positives(text):
    return tuple(positive(part) for part in text.split(","))


def seconds(text):
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def arm_list(text):
    names = tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such arm: {', '.join(unknown)} (there are {', '.join(ARMS)})")
    return names


def assignment(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def device(text):
    """"cpu" or "gpu"; "auto" is the GPU where there is one."""
    return text if text != "auto" else "gpu" if os.path.exists("/dev/nvidia0") else "cpu"


def option(default, text=None, **settings):
    """A field that is an option: its default, its help, and further settings of argparse."""
    return field(default=default, metadata={"help": text, **settings})


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """the case: what is computed"""

    image: str = option("", "photograph (default: the sample of the matplotlib package)")
    prompt: str = option(BENCHMARK_PROMPT)
    prompt_tokens: int = option(0, "repeat the prompt's text until the prompt has N tokens, image included",
                                type=positive, metavar="N")
    new_tokens: int = option(32, type=positive)
    batch: int = option(1, type=positive)
    dtype: str = option("float32", choices=DTYPES["gpu"])
    device: str = option("cpu", type=device, choices=CHOICES)
    preset: str = option("", "name in the results (default: the checkpoint folder's)")

    @property
    def photograph(self):
        """Path of the image; UserError when there is no sample to take."""
        return self.image or str(default_image())


@dataclass(frozen=True, kw_only=True)
class Sources:
    """the sources: what the arms load, and what they run on"""

    folders: dict                                     # ArmSpec.source -> folder, "" where none was given
    python: dict                                      # framework -> interpreter
    environment: dict = field(default_factory=dict)   # framework -> {variable: value}, added to the interpreter's
    threads: int = 0                                  # 0: physical cores

    @property
    def checkpoint(self):
        return self.folders["checkpoint"]

    @property
    def cpu_threads(self):
        """CPU threads of every arm."""
        return self.threads or physical_cores()

    @staticmethod
    def add(parser, exports=(), required=False):
        """Add the options; `exports` are those of EXPORTS that the command takes."""
        group = parser.add_argument_group(Sources.__doc__)
        group.add_argument("--checkpoint", required=True, help="Hugging Face checkpoint folder")
        for name in exports:
            group.add_argument(f"--{name.replace('_', '-')}", default="", required=required,
                               help=f"exported folder of the {name.removeprefix('exported_')} graphs")
        group.add_argument("--threads", type=positive, default=0,
                           help="CPU threads of every arm (default: physical cores)")
        for name in FRAMEWORKS:
            option = f"--{name.replace('_', '-')}"
            group.add_argument(f"{option}-python", help=f"interpreter of the {name} arms (default: "
                               f"${name.upper()}_PYTHON, then this one)")
            group.add_argument(f"{option}-env", type=assignment, action="extend", nargs="+", default=[],
                               metavar="NAME=VALUE", help=f"added to the environment of the {name} arms")

    @staticmethod
    def named_frameworks(args):
        """Frameworks whose interpreter was named, by an option or a variable."""
        return [name for name in FRAMEWORKS
                if getattr(args, f"{name}_python") or os.environ.get(f"{name.upper()}_PYTHON")]

    @classmethod
    def read(cls, args):
        return cls(folders={name: getattr(args, name, "") for name in ("checkpoint", *EXPORTS)},
                   python={name: getattr(args, f"{name}_python") or os.environ.get(f"{name.upper()}_PYTHON")
                           or sys.executable for name in FRAMEWORKS},
                   environment={name: dict(getattr(args, f"{name}_env")) for name in FRAMEWORKS}, threads=args.threads)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """the limits: how long is measured"""

    launches: int = option(0, "new processes of every arm, one after the other (default: as the device needs)",
                           type=positive, metavar="N")
    rounds: int = option(200, "the most rounds", type=positive)
    budget: float = option(45, "of rounds, of all arms together; they end before when enough is known (0: no limit)",
                           type=seconds, metavar="SECONDS")
    warmup: int = option(8, "the most warm-up passes of an arm (0: none, and no first run)", type=natural)
    cold: int = option(3, "passes with the L2 cache overwritten before each stage (GPU only; 0: none)", type=natural,
                       metavar="PASSES")
    new_lengths: int = option(3, "prompts of lengths that no arm has seen, each with its first request (0: none)",
                              type=natural, metavar="N")
    sequential: bool = option(False, "load and measure one arm after the other (a GPU that cannot hold all of them "
                              "does so anyway)", action="store_true")
    deadline: float = option(0, "begin nothing new after this time, so that results are written, and no launch "
                             "after the first that would not end by then (0: none)",
                             type=seconds, metavar="SECONDS")


@dataclass(frozen=True, kw_only=True)
class FurtherCases:
    """further cases, measured after the first one"""

    batches: tuple = option((), "other batches", type=positives, metavar="N,…")
    lengths: tuple = option((), "other numbers of new tokens", type=positives, metavar="N,…")
    case_rounds: int = option(3, "rounds of the further cases", type=positive)
    case_arms: tuple = option((), "arms that measure them (default: all)", type=arm_list)
    case_budget: float = option(0, "an arm that has spent this time on further cases begins no other one (0: no limit)",
                                type=seconds, metavar="SECONDS")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """the run"""

    case: CaseOptions
    sources: Sources
    limits: Limits = Limits()
    further: FurtherCases = FurtherCases()
    arms: tuple = option((), f"of {','.join(ARMS)} (default: those that are for the device)", type=arm_list)
    weights: str = option("auto", "a format that rounds: also measure the fused graphs with matrices in it, and what "
                          "that costs (compare, regress: these alone); the name of --dtype: the fused graphs' matrices "
                          "are kept in it", choices=("auto", *formats.plain(), *QUANTISED))
    out: str = option("results", "folder of the results")


def add(parser, part, *names, **defaults):
    """Add a part's options to a parser: all of them or those in `names`; `defaults` replace the part's."""
    group = parser.add_argument_group(part.__doc__)
    for each in fields(part):
        if each.metadata and each.name in (names or [each.name]):
            group.add_argument(f"--{each.name.replace('_', '-')}", **{"default": each.default, **each.metadata})
    parser.set_defaults(**defaults)


def read(part, args, **given):
    """A part, and the parts in it, from what was parsed; those in `given` are there already."""
    values = {each.name: read(each.type, args) if is_dataclass(each.type) else getattr(args, each.name)
              for each in fields(part)
              if each.name not in given and (is_dataclass(each.type) or hasattr(args, each.name))}
    return part(**values, **given)
