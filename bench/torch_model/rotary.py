"""Rotary positions with the dynamic NTK base, and the log-n scale of queries."""

import math

import torch


def ntk_alpha(length, seq_length):
    """Factor on the rotary base for a prompt of `length` tokens: 1 up to seq_length, then 3, 7, 15 …"""
    return max(2 ** math.ceil(math.log2(length / seq_length) + 1) - 1, 1)


def inverse_frequencies(config, prompt_length, device):
    """[D/2] fp32 for a whole prompt of `prompt_length` tokens; a decode step keeps those of its prompt."""
    dim = config.kv_channels
    alpha = ntk_alpha(prompt_length, config.seq_length) if config.use_dynamic_ntk else 1
    base = config.rotary_emb_base * alpha ** (dim / (dim - 2))
    return 1.0 / (base ** (torch.arange(0, dim, 2, device=device).float() / dim))


def rotation(frequencies, positions):
    """(cos, sin), each fp32 [S, D], for integer positions [S]."""
    angles = torch.outer(positions.float(), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotate all of x [B, heads, S, D] by halves, in fp32; returns x's dtype."""
    full = x.float()
    first, second = full.chunk(2, dim=-1)
    return (full * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


def logn_scale(positions, seq_length, dtype):
    """[S, 1]: ln(p+1) / ln(seq_length) for slots at or beyond seq_length, else 1."""
    return (torch.log(positions.float() + 1) / math.log(seq_length)).clamp(min=1)[:, None].to(dtype)
