"""Command line: `python -m infer --exported DIR [--prompt TEXT] [--image FILE …]`."""

import argparse
import time
from pathlib import Path

from core.errors import UserError, run_cli
from infer.engine import Engine
from infer.graph import Manifest
from infer.image import default_image, load_image
from infer.prompt import BENCHMARK_PROMPT, image_spans, to_list_format, with_image
from infer.tokenizer import Tokenizer


def question(prompt, files):
    """(prompt text, image files): `<img>path</img>` in the prompt names its images, else `files` stand before it.

    Without a prompt and files it is the benchmark's question about the sample photograph.
    """
    if prompt is None:
        prompt, files = BENCHMARK_PROMPT, files or [default_image()]
    named = [part["image"] for part in to_list_format(prompt) if "image" in part]
    if named and files:
        raise UserError("images are given both in the prompt and as files: use one of the two")
    return (prompt, named) if named else (with_image(prompt, len(files)), files)


def check_length(ids, new_tokens, config):
    """Raise UserError unless a prompt and what it asks for fit the model's positions."""
    if len(ids) + new_tokens > config.max_position_embeddings:
        raise UserError(f"the prompt has {len(ids)} tokens; with {new_tokens} new ones that exceeds the model's "
                        f"{config.max_position_embeddings} positions: shorten the prompt or NEW_TOKENS=")


def answer(engine, tokenizer, ids, images, new_tokens):
    """Generate greedily; returns (text, {stage: milliseconds}), end-of-text left out of the text."""
    def since(moment):
        engine.synchronize()
        return (time.perf_counter() - moment) * 1e3

    times, features, start = {}, None, time.perf_counter()
    if images:
        pixels = engine.preprocess(images)
        times["preprocess"] = since(start)
        encoding = time.perf_counter()
        features = engine.vision(pixels)
        times["vision"] = since(encoding)
    run = engine.start([ids], features, new_tokens, [tokenizer.end_of_text])
    run.prefill()
    times["TTFT"] = since(start)
    decoding = time.perf_counter()
    while not run.finished:
        run.step()
    (tokens,) = run.tokens()
    if len(tokens) > 1:
        times["TPOT"] = since(decoding) / (len(tokens) - 1)
    return tokenizer.decode(tokens, skip_special=True), times


def visible(text):
    """The text with control characters replaced: a model must not steer the terminal that it is shown on."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def main():
    parser = argparse.ArgumentParser(prog="python -m infer", description=__doc__)
    parser.add_argument("--exported", type=Path, required=True, help="folder with vision/ and language/")
    parser.add_argument("--prompt", help="text; without it the benchmark's question is asked")
    parser.add_argument("--image", nargs="+", default=[], help="image files, put before the text in this order")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    args = parser.parse_args()
    if args.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {args.max_new_tokens}: at least one token must be generated")

    language = args.exported / "language"
    config = Manifest(language).config
    tokenizer = Tokenizer(language / "qwen.tiktoken", config.image_start_id)
    text, files = question(args.prompt, args.image)
    ids = tokenizer.encode(text)
    check_length(ids, args.max_new_tokens, config)
    if len(image_spans(ids, config.image_start_id)) != len(files):
        raise UserError("the images of the prompt cannot be told apart: write each as <img>path</img>")
    images = [load_image(file) for file in files]

    engine = Engine(args.exported, args.device)
    print(f"loaded in {engine.load_seconds:.2f} s ({engine.impl}, {engine.dtype}, {engine.device})", flush=True)
    generated, times = answer(engine, tokenizer, ids, images, args.max_new_tokens)
    print(visible(generated))
    print(", ".join(f"{stage} {ms:.1f} ms" for stage, ms in times.items()))


if __name__ == "__main__":
    run_cli(main)
