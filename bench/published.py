"""The published figures that this project is measured by, quoted, with what is known of each and what is not."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Anchor:
    """One publication; times are texts, as they were printed, "-" where there is none."""

    name: str
    setup: str
    torch_ms: str
    paddle_ms: str
    ratio: str
    source: str
    known: str
    unknown: str


PAIR = Anchor(
    "PaddleMIX, deploy/qwen_vl", "one A100, batch 1, float16", "1012.11", "425.36", "2.379x",
    source="README.md of deploy/qwen_vl in PaddlePaddle/PaddleMIX on GitHub, in a version whose commands pass "
           "--qwen_vl_config_path",
    known="Qwen-VL-7B as static graphs; the Paddle side is timed from the image's address to the text, one mean",
    unknown="the number of new tokens, the PyTorch script, versions, and whether nine passes were divided by ten")
LATER = Anchor(
    "PaddleMIX, deploy", "one A100 80G, Paddle 3.0, PaddleNLP 2.7.2, 448 x 448, float16", "-", "669.8", "-",
    source="README.md of deploy in PaddlePaddle/PaddleMIX on GitHub, commit 1577ec3a",
    known="scripts were run with --benchmark, which in a known version of this one divides nine passes by ten",
    unknown="the number of new tokens, the prompt, PyTorch's time, and why it is 1.6 times the other on such a card")
ANCHORS = (PAIR, LATER)


def table():
    """Frame of texts: a line per publication. Figures of other machines or models have tables of their own."""
    return pd.DataFrame([{"set-up": anchor.setup, "PyTorch (ms)": anchor.torch_ms, "Paddle (ms)": anchor.paddle_ms,
                          "ratio": anchor.ratio} for anchor in ANCHORS], index=[anchor.name for anchor in ANCHORS])


def remarks():
    """A line per publication: its source, what is known of it and what is not."""
    return [f"{anchor.name}: quoted from {anchor.source}. Known: {anchor.known}. Not known: {anchor.unknown}."
            for anchor in ANCHORS]
