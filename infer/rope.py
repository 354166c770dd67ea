"""Rotary frequencies with the published dynamic NTK rule."""

import functools
import math

import numpy as np


def ntk_alpha(prompt_tokens, seq_length):
    """Scale of the rotary base for a prompt: 1 up to seq_length, 3 up to twice that, then 7, 15, …"""
    return max(2 ** math.ceil(math.log2(prompt_tokens / seq_length) + 1) - 1, 1)


def inverse_frequencies(config, prompt_tokens):
    """f32 [head_dim / 2] for one row, from the length of its own prompt; it stays as it is while decoding."""
    alpha = ntk_alpha(prompt_tokens, config.seq_length) if config.use_dynamic_ntk else 1
    return _frequencies(config.kv_channels, config.rotary_emb_base, alpha).copy()


@functools.lru_cache
def _frequencies(dim, base, alpha):
    base *= alpha ** (dim / (dim - 2))
    return (1.0 / np.float32(base) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))).astype(np.float32)
