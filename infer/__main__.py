"""Command line: `python -m infer --exported DIR [--prompt TEXT] [--image FILE …]`."""

from pathlib import Path

from core.errors import ArgumentParser, run_cli
from infer import drawing
from infer.image import default_image
from infer.model import QwenVL
from infer.options import add_options, in_words, loaded, sampling_of, show
from infer.prompt import BENCHMARK_PROMPT, images_of
from infer.sampling_parameters import Sampling


def question(prompt, files):
    """(prompt, image files); without a prompt the benchmark's question, about the sample photograph by default."""
    return (prompt, files) if prompt is not None else (BENCHMARK_PROMPT, files or [default_image()])


def main():
    parser = ArgumentParser(prog="python -m infer", description=__doc__)
    parser.add_argument("--prompt", help="text; without it the benchmark's question is asked")
    parser.add_argument("--image", nargs="+", default=[], help="image files, put before the text in this order")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--out", type=Path, help="folder for the picture and the JSON of an answer's boxes")
    parser.add_argument("--font", type=Path, help="TrueType file for their labels (default: DejaVu Sans)")
    add_options(parser)
    args = parser.parse_args()

    model = QwenVL(args.exported, args.device, image_folders=None, weights=args.weights)
    settings = model.settings(args.max_new_tokens, Sampling(**sampling_of(args)), args.stop)
    prompt, files = question(args.prompt, args.image)
    request = model.prepare(prompt, files, settings)
    if args.font:
        drawing.load_font(drawing.MIN_TEXT, args.font)
    print(loaded(model.load()), flush=True)
    answer = model.answer(*request, settings, show)
    print()
    print(in_words(answer.times))
    _, pictures = request
    if args.out and pictures:
        source = images_of(prompt, files)[-1]
        for line in drawing.in_words(*drawing.save(args.out, answer.text, pictures[-1], source, args.font)):
            print(line)


if __name__ == "__main__":
    run_cli(main)
