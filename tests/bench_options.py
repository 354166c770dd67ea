"""RunOptions for the tests: every option by its name on the command line, in whichever part it is."""

import sys
from argparse import Namespace

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
