"""How the next token is chosen: its parameters, checked, and the record of them that the graph takes."""

import dataclasses
import math

import numpy as np

from core.config import QUERIES
from core.errors import UserError

MAX_SEED = 2**63 - 1
RECORD = np.dtype([("temperature", "<f4"), ("top_p", "<f4"), ("top_k", "<i4"), ("repetition_penalty", "<f4"),
                   ("min_new_tokens", "<i4"), ("seed", "<u8")], align=False)  # as in ops/kernels/sampling/arithmetic.h
LIMITS = {  # name -> (whether it is within its range, the range in words)
    "temperature": (lambda v: v == 0 or 1e-3 <= v <= 100, "between 0.001 and 100, or 0 (the likeliest token)"),
    "top_p": (lambda v: 0 < v <= 1, "above 0 and at most 1 (all tokens)"),
    "top_k": (lambda v: 0 <= v < 2**31, "0 (all tokens) or more"),
    "repetition_penalty": (lambda v: 1e-3 <= v <= 100, "between 0.001 and 100 (1: none)"),
    "min_new_tokens": (lambda v: 0 <= v < 2**31, "0 or more"),
    "seed": (lambda v: 0 <= v <= MAX_SEED, f"between 0 and {MAX_SEED}"),
}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a row's tokens are chosen, filter by filter in this order; the default is greedy.

    repetition_penalty divides the positive and multiplies the negative logits of tokens that stand in the prompt or in
    the answer so far (1: none); the slots of an image are no tokens. min_new_tokens: no stop token before this many.
    temperature divides the logits; 0 takes the likeliest token, the lowest id on ties. top_k keeps that many of the
    likeliest tokens (0: all), top_p the likeliest ones until their probabilities reach it (1: all); tokens of equal
    probability stay or go together. seed: the same seed, prompt and logits give the same tokens, in any row of a batch.

    Raises UserError naming a parameter that is out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    seed: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, (within, words) = getattr(self, field.name), LIMITS[field.name]
            whole = not isinstance(value, bool) and isinstance(value, (int, np.integer))
            if not (whole or field.type is float and isinstance(value, (float, np.floating))) \
                    or not math.isfinite(value) or not within(value):
                kind = "a number" if field.type is float else "a whole number"
                raise UserError(f"{field.name}={value!r} is out of range: give {kind} {words}")

    @property
    def greedy(self):
        """Whether every token is simply the likeliest one."""
        return self.temperature == 0 and self.repetition_penalty == 1 and self.min_new_tokens == 0


def refuse_drawing(samplings):
    """Raise UserError unless all take the likeliest token, as native graphs do."""
    if not all(sampling.greedy for sampling in samplings):
        raise UserError("graphs of IMPL=native take the likeliest token: export with IMPL=fused to sample")


def records(samplings, prompts, vocab_size, image_start_id):
    """The graph's `sampling`: i32 [B, 7 + ceil(vocab_size / 32)] of one Sampling and one token id list a row.

    A row holds its RECORD and then a bit for each token that stands in its prompt.
    """
    head = np.zeros([len(prompts)], RECORD)
    seen = np.zeros([len(prompts), -(-vocab_size // 32) * 32], np.uint8)
    for row, (sampling, prompt) in enumerate(zip(samplings, prompts, strict=True)):
        head[row] = dataclasses.astuple(sampling)
        ids = np.asarray(prompt, np.int64)
        spoken = np.ones(len(ids), bool)
        for start in np.flatnonzero(ids == image_start_id):
            spoken[start + 1:start + 1 + QUERIES] = False
        seen[row, ids[spoken]] = 1
    bits = np.packbits(seen, axis=1, bitorder="little").view(np.int32)
    return np.concatenate([head.view(np.int32).reshape(len(prompts), -1), bits], axis=1)
