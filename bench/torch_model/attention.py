"""Scaled dot-product attention in the two forms that the baseline compares."""

import torch
import torch.nn.functional as F


def additive_mask(rows, columns, dtype, device, valid=None):
    """Causal mask for `rows` queries that end at key `columns - 1`, joined with the padding of the keys.

    `valid` is [B, columns], 1 for real tokens. Returns [1 or B, 1, rows, columns]: 0 where a key is seen, the lowest
    finite number elsewhere (a row that sees nothing must stay finite: it is padding, but its keys are in the cache).
    """
    hidden = torch.ones(rows, columns, dtype=torch.bool, device=device).triu(columns - rows + 1)[None, None]
    if valid is not None:
        hidden = hidden | (valid[:, None, None, :] == 0)
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill(hidden, torch.finfo(dtype).min)


def attend(attention, q, k, v, mask=None, causal=False):
    """Attention over [B, heads, S, D] queries and [B, heads, C, D] keys and values; returns [B, heads, S, D].

    `mask` is added to the scores. `causal` stands for the full causal mask without one being made: only the
    "sdpa" form knows it, "eager" takes a mask. Eager softmax runs in fp32, as the published code's does.
    """
    if attention == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype) @ v
