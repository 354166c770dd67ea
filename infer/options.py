"""What both command lines share: the options of generation, and text that cannot steer the terminal."""

import dataclasses
from pathlib import Path

from core.placement import CHOICES
from core.terminal import require_reader
from infer.sampling_parameters import Sampling

DEFAULTS = Sampling()


def add_options(parser):
    """Add the options of a model and of its answers to an argparse parser."""
    parser.add_argument("--exported", type=Path, required=True, help="folder with vision/ and language/")
    parser.add_argument("--device", choices=CHOICES, default="auto")
    parser.add_argument("--temperature", type=float, default=DEFAULTS.temperature,
                        help="0 (default): the likeliest token; above: draw, the more evenly the higher")
    parser.add_argument("--top-p", type=float, default=DEFAULTS.top_p,
                        help="draw from the likeliest tokens that have this probability together (default 1: all)")
    parser.add_argument("--top-k", type=int, default=DEFAULTS.top_k,
                        help="draw from this many of the likeliest tokens (default 0: all)")
    parser.add_argument("--repetition-penalty", type=float, default=DEFAULTS.repetition_penalty,
                        help="above 1: tokens that have been there become less likely (default 1)")
    parser.add_argument("--min-new-tokens", type=int, default=DEFAULTS.min_new_tokens,
                        help="no stop token before this many new ones (default 0)")
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed, help="same seed, same answer (default 0)")
    parser.add_argument("--stop", nargs="+", default=[], help="further texts, of one token each, that end an answer")


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
    return f"loaded in {engine.load_seconds:.2f} s ({engine.impl}, {engine.dtype}, {engine.placement.kind})"


def in_words(times):
    """Times of an answer by stage, in one line."""
    return ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in times.items())
