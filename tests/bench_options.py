"""RunOptions for the tests, every option by its name on the command line; fake arms, and short runs of them."""

import sys
from argparse import Namespace

from bench.arms import ArmSpec
from bench.options import FRAMEWORKS, RunOptions, Sources, read
from infer.image import default_image

OF_SOURCES = ("python", "environment", "threads")


def run_options(**options):
    """RunOptions of these options, all others as they are by default, but one launch of every arm; interpreters are
    this one.

    `checkpoint`, `exported_fused` and whatever else an ArmSpec names as its source are folders.
    """
    options = {"launches": 1, "image": str(default_image()), "prompt": "What is it?", "checkpoint": "",
               "python": dict.fromkeys(FRAMEWORKS, sys.executable), **options}
    folders = {name: str(options.pop(name)) for name in list(options) if name.startswith(("checkpoint", "exported_"))}
    sources = Sources(folders=folders, **{name: options.pop(name) for name in OF_SOURCES if name in options})
    return read(RunOptions, Namespace(**options), sources=sources)


def fake_arms(arms, diary):
    """{name: ArmSpec} of arms {name: options of FakeArm, and "source"} that note their passes in the file `diary`."""
    return {name: ArmSpec(name, "torch", "tests.bench_fake_arm:FakeArm", options.get("source", "checkpoint"),
                          {"name": name, "diary": str(diary),
                           **{option: value for option, value in options.items() if option != "source"}})
            for name, options in arms.items()}


def short_options(arms, **options):
    """RunOptions of two rounds of these arms and nothing else, unless `options` say so."""
    return run_options(**{"arms": tuple(arms), "new_tokens": 4, "rounds": 2, "warmup": 0, "new_lengths": 0, **options})
