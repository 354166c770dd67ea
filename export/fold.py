"""What the graphs need not compute for every image, computed once in float32 at export."""

import math

import numpy as np

A = -0.75            # the kernel parameter of torch's bicubic interpolation
NORM_EPSILON = 1e-6  # of every LayerNorm of the vision tower


def resize_positions(table, grid):
    """Position table [n * n, width] resized to [grid * grid, width], float32.

    Bicubic as torch.nn.functional.interpolate(align_corners=False, antialias=False); a table of that grid already
    is returned as it is.
    """
    side = math.isqrt(len(table))
    if side == grid:
        return table
    weights = _bicubic_weights(side, grid)
    square = table.reshape(side, side, -1)
    resized = np.einsum("yi,xj,ijc->yxc", weights, weights, square, optimize=True)
    return resized.reshape(grid * grid, -1).astype(np.float32)


def _bicubic_weights(source, target):
    """Matrix [target, source] of one axis."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    start = np.floor(position)
    weights = np.zeros((target, source))
    for tap in range(-1, 3):
        distance = np.abs(position - start - tap)
        near = ((A + 2) * distance - (A + 3)) * distance ** 2 + 1
        far = ((A * distance - 5 * A) * distance + 8 * A) * distance - 4 * A
        column = np.clip(start + tap, 0, source - 1).astype(int)
        np.add.at(weights, (np.arange(target), column), np.where(distance <= 1, near, far))
    return weights.astype(np.float32)


def layer_norm(x, weight, bias):
    """LayerNorm over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + NORM_EPSILON) * weight + bias


def resampler_query(query, ln_weight, ln_bias, pos_embed, q_weight, q_bias):
    """q_proj(ln_q(query) + pos_embed) [queries, E], not yet divided by the square root of the head's width."""
    return (layer_norm(query, ln_weight, ln_bias) + pos_embed) @ q_weight.T + q_bias


def resampler_key_bias(pos_embed, grid, k_weight, k_bias):
    """What positions and bias add to the keys, [grid * grid, E]."""
    return resize_positions(pos_embed, grid) @ k_weight.T + k_bias


def split_heads(in_proj, heads):
    """q|k|v parts of a projection whose rows are q0 k0 v0 q1 k1 v1 ...: three arrays of a third of the rows each."""
    per_head = in_proj.reshape(heads, 3, in_proj.shape[0] // (3 * heads), *in_proj.shape[1:])
    return [per_head[:, part].reshape(-1, *in_proj.shape[1:]) for part in range(3)]
