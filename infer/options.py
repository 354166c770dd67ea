"""What both command lines share: the options of generation, and text that cannot steer the terminal."""

import dataclasses
from pathlib import Path

from core.placement import CHOICES
from core.terminal import require_reader
from infer.formats import AUTO
from infer.sampling_parameters import Sampling
from ops.formats import NAMES

HELP = {  # field of Sampling -> what its option does
    "temperature": "0 (default): the likeliest token; above: draw, the more evenly the higher",
    "top_p": "draw from the likeliest tokens that have this probability together (default 1: all)",
    "top_k": "draw from this many of the likeliest tokens (default 0: all)",
    "repetition_penalty": "above 1: tokens that have been there become less likely (default 1)",
    "min_new_tokens": "no stop token before this many new ones (default 0)",
    "seed": "same seed, same answer (default 0)",
}


def add_options(parser):
    """Add the options of a model and of its answers to an argparse parser."""
    parser.add_argument("--exported", type=Path, required=True, help="folder with vision/ and language/")
    parser.add_argument("--device", choices=CHOICES, default="auto")
    add_weights(parser)
    for field in dataclasses.fields(Sampling):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default,
                            help=HELP[field.name])
    parser.add_argument("--stop", nargs="+", default=[], help="further texts, of one token each, that end an answer")


def add_weights(parser):
    """Add the option that says in which formats matrices are kept, see infer.formats."""
    parser.add_argument("--weights", default=AUTO, help="formats that decoder's and head's matrices are kept in: "
                        f"{AUTO} (loses nothing), {', '.join(NAMES)}, or two with a + between")


def sampling_of(args):
    """The parsed options of Sampling by name; raises UserError for one out of range."""
    options = {field.name: getattr(args, field.name) for field in dataclasses.fields(Sampling)}
    Sampling(**options)
    return options


def visible(text):
    """The text with control characters replaced: a model must not steer the terminal that it is shown on."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def show(piece):
    """Print a piece of an answer at once; raises ReaderLeft when nobody reads it."""
    print(visible(piece), end="", flush=True)
    require_reader()


def loaded(engine):
    """What was loaded, and how long it took."""
    return f"loaded in {engine.load_seconds:.2f} s ({engine.impl}, {engine.dtype}, {engine.placement.kind}" + (
        f", matrices in {engine.weights})" if engine.weights != engine.dtype else ")")


def in_words(times):
    """Times of an answer by stage, in one line."""
    return ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in times.items())
