"""Command line: `python -m infer --exported DIR [--prompt TEXT] [--image FILE …]`."""

import argparse

from core.errors import run_cli
from infer.image import default_image
from infer.model import QwenVL
from infer.options import add_options, in_words, loaded, sampling_of, show
from infer.prompt import BENCHMARK_PROMPT
from infer.sampling import Sampling


def question(prompt, files):
    """(prompt, image files); without a prompt the benchmark's question, about the sample photograph by default."""
    return (prompt, files) if prompt is not None else (BENCHMARK_PROMPT, files or [default_image()])


def main():
    parser = argparse.ArgumentParser(prog="python -m infer", description=__doc__)
    parser.add_argument("--prompt", help="text; without it the benchmark's question is asked")
    parser.add_argument("--image", nargs="+", default=[], help="image files, put before the text in this order")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    add_options(parser)
    args = parser.parse_args()

    model = QwenVL(args.exported, args.device)
    settings = model.settings(args.max_new_tokens, Sampling(**sampling_of(args)), args.stop)
    request = model.prepare(*question(args.prompt, args.image), settings)
    print(loaded(model.load()), flush=True)
    answer = model.answer(*request, settings, show)
    print()
    print(in_words(answer.times))


if __name__ == "__main__":
    run_cli(main)
