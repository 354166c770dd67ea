"""Decoder stack; submodules carry the names of the published checkpoint's keys."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bench.torch_model.attention import attend
from bench.torch_model.rotary import rotate
from bench.torch_model.vision import VisionTower


@dataclass
class StepContext:
    """What all layers share in one call: rotation, query scale, mask."""

    cos: torch.Tensor
    sin: torch.Tensor
    query_scale: torch.Tensor | None  # log-n, None while every position lies below seq_length
    mask: torch.Tensor | None         # additive [1 or B, 1, S, C]
    causal: bool                      # full causal attention without a mask


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x):
        full = x.float()
        return (full * torch.rsqrt(full.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class DecoderAttention(nn.Module):
    def __init__(self, config, attention):
        super().__init__()
        self.heads, self.attention = config.num_attention_heads, attention
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x, context, cache):
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, context.cos, context.sin), rotate(k, context.cos, context.sin)
        if cache is not None:
            k, v = cache.update(k, v)
        if context.query_scale is not None:
            q = q * context.query_scale
        return self.c_proj(attend(self.attention, q, k, v, context.mask, context.causal).transpose(1, 2).flatten(2))


class DecoderMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.mlp_width, bias=False)
        self.w2 = nn.Linear(config.hidden_size, config.mlp_width, bias=False)
        self.c_proj = nn.Linear(config.mlp_width, config.hidden_size, bias=False)

    def forward(self, x):
        return self.c_proj(self.w1(x) * F.silu(self.w2(x)))


class DecoderBlock(nn.Module):
    def __init__(self, config, attention):
        super().__init__()
        self.ln_1 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = DecoderAttention(config, attention)
        self.ln_2 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = DecoderMLP(config)

    def forward(self, x, context, cache):
        x = x + self.attn(self.ln_1(x), context, cache)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Embedding, decoder blocks, final norm, and the vision tower beside them, as in the published model."""

    def __init__(self, config, attention):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(DecoderBlock(config, attention) for _ in range(config.num_hidden_layers))
        self.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.visual = VisionTower(config.visual, attention)

    def forward(self, embeddings, context, caches=None):
        """[B, S, H] embeddings -> [B, S, H] normalised hidden states.

        `caches` are one a layer, if given: update(k, v) stores this call's and returns what the queries shall see.
        """
        x = embeddings
        for block, cache in zip(self.h, caches or [None] * len(self.h), strict=True):
            x = block(x, context, cache)
        return self.ln_f(x)
