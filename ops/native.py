"""The operators of ops/functional.py composed of plain Paddle layers: the reference, and what a stock build runs.

Norms and softmax work in fp32 and matrix products in the weights' dtype, as the published model does.
"""

import math

from ops.framework import import_paddle
from ops.framework.operators import overwrite_rows
from ops.framework.tensors import sizes

paddle = import_paddle()
F = paddle.nn.functional


def vision_encoder(pixels, weights, heads, eps):
    """See functional.vision_encoder."""
    w = weights
    dtype = w["patch_weight"].dtype
    layers = len(w["ln_1_weight"])
    patches = w["position"].shape[0]
    grid = math.isqrt(patches)
    side = pixels.shape[2] // grid
    columns = 3 * side * side
    x = pixels.reshape([-1, 3, grid, side, grid, side]).transpose([0, 2, 4, 1, 3, 5]).reshape([-1, patches, columns])
    x = _linear(x.astype(dtype), w["patch_weight"][:, :columns]) + w["position"]
    x = _layer_norm(x, w["ln_pre_weight"], w["ln_pre_bias"], eps)
    for i in range(layers):
        y = _layer_norm(x, w["ln_1_weight"][i], w["ln_1_bias"][i], eps)
        q, k, v = paddle.split(_linear(y, w["qkv_weight"][i], w["qkv_bias"][i]), 3, axis=-1)
        y = _attention(_heads(q, heads), _heads(k, heads), _heads(v, heads))
        x = x + _linear(y, w["out_weight"][i], w["out_bias"][i])
        y = _layer_norm(x, w["ln_2_weight"][i], w["ln_2_bias"][i], eps)
        y = F.gelu(_linear(y, w["fc1_weight"][i], w["fc1_bias"][i]))
        x = x + _linear(y, w["fc2_weight"][i], w["fc2_bias"][i])
    return x


def resampler(features, weights, image_features, heads, eps):
    """See functional.resampler."""
    w = weights
    width = w["query"].shape[1]
    kv = _layer_norm(_linear(features, w["kv_proj_weight"]), w["ln_kv_weight"], w["ln_kv_bias"], eps)
    k = _linear(kv, w["key_value_weight"][:width]) + w["key_bias"]
    v = _linear(kv, w["key_value_weight"][width:], w["value_bias"])
    y = _attention(_heads(w["query"].unsqueeze(0), heads), _heads(k, heads), _heads(v, heads))
    y = _linear(y, w["out_weight"], w["out_bias"])
    y = _linear(_layer_norm(y, w["ln_post_weight"], w["ln_post_bias"], eps), w["proj_weight"])
    paddle.assign(y, output=image_features)


def embedding(tokens, image_features, image_starts, weights):
    """See functional.embedding."""
    hidden, queries = image_features.shape[2], image_features.shape[1]
    batch, columns = sizes(tokens)[0], sizes(tokens)[1]
    x = F.embedding(tokens, weights["token_embedding"]).reshape([-1, hidden])
    # Unused images land in one row more than the batch has, which is cut off again.
    x = paddle.concat([x, paddle.zeros([1, hidden], x.dtype)])
    row, column = image_starts[:, 0], image_starts[:, 1]
    first = paddle.where(row >= 0, row * columns + column, batch * columns)
    step = paddle.where(row >= 0, paddle.ones_like(row), paddle.zeros_like(row))
    slots = first.unsqueeze(1) + step.unsqueeze(1) * paddle.arange(queries, dtype="int32").unsqueeze(0)
    x = paddle.scatter(x, slots.flatten(), image_features.reshape([-1, hidden]))
    return x[:-1].reshape([-1, columns, hidden])


def decoder(hidden, lengths, positions, inv_freq, weights, k_cache, v_cache, heads, seq_length, eps):
    """See functional.decoder."""
    w = weights
    layers, mlp = len(w["ln_1_weight"]), w["down_weight"][0].shape[1]
    dtype, head_dim = hidden.dtype, hidden.shape[2] // heads
    columns, slots = sizes(hidden)[1], sizes(k_cache)[3]

    slot = positions.unsqueeze(1) + paddle.arange(columns, dtype="int32").unsqueeze(0)  # [B, S]
    angle = slot.astype("float32").unsqueeze(-1) * inv_freq.unsqueeze(1)
    angle = paddle.concat([angle, angle], axis=-1).unsqueeze(1)  # [B, 1, S, D]
    cosine, sine = paddle.cos(angle), paddle.sin(angle)
    logn = paddle.ones_like(slot, dtype="float32")
    if seq_length:
        count = (slot + 1).astype("float32")
        logn = paddle.where(count > seq_length, paddle.log(count) / math.log(seq_length), logn)
    logn = logn.unsqueeze(1).unsqueeze(-1)

    # Old keys are those below positions[b] of the cache, new ones those of this call up to the query itself.
    reach = paddle.clip(paddle.max(positions), min=1)  # Paddle has no tensors of size zero
    old = (paddle.arange(reach, dtype="int32").unsqueeze(0) < positions.unsqueeze(1)).unsqueeze(1)  # [B, 1, reach]
    old = old.expand([-1, columns, -1])
    new = paddle.tril(paddle.ones([columns, columns], "int32")).astype("bool").unsqueeze(0)
    new = new.expand([sizes(hidden)[0], -1, -1])
    mask = paddle.concat([old, new], axis=-1).unsqueeze(1)  # [B, 1, S, reach + S]
    mask = paddle.where(mask, paddle.zeros([1], "float32"), paddle.full([1], -3e38, "float32"))

    x, new_keys, new_values = hidden, [], []
    for i in range(layers):
        y = _rms_norm(x, w["ln_1_weight"][i], eps)
        q, k, v = (_heads(t, heads) for t in paddle.split(_linear(y, w["qkv_weight"][i], w["qkv_bias"][i]), 3, axis=-1))
        q = (_rotate(q.astype("float32"), cosine, sine) * logn).astype(dtype)
        k = _rotate(k.astype("float32"), cosine, sine).astype(dtype)
        new_keys.append(k)
        new_values.append(v)
        y = _attention(q, paddle.concat([k_cache[i, :, :, :reach], k], axis=2),
                       paddle.concat([v_cache[i, :, :, :reach], v], axis=2), mask)
        x = x + _linear(y, w["out_weight"][i])
        y = _linear(_rms_norm(x, w["ln_2_weight"][i], eps), w["gate_up_weight"][i])
        gate, up = paddle.split(y, [mlp, mlp], axis=-1)
        x = x + _linear(up * F.silu(gate), w["down_weight"][i])

    # One scatter for all layers. Padding is written too, behind the row's tokens, where the next call overwrites it.
    batch = sizes(hidden)[0]
    line = paddle.arange(layers, dtype="int32").reshape([-1, 1, 1, 1]) * batch
    line = (line + paddle.arange(batch, dtype="int32").reshape([1, -1, 1, 1])) * heads
    line = line + paddle.arange(heads, dtype="int32").reshape([1, 1, -1, 1])
    index = (line * slots + slot.unsqueeze(0).unsqueeze(2)).flatten()
    for cache, new in ((k_cache, new_keys), (v_cache, new_values)):
        overwrite_rows(cache, index, paddle.stack(new).reshape([-1, head_dim]))
    return x


def lm_head(hidden, lengths, logit_columns, stop_tokens, weights, positions, next_tokens, generated, counts, finished,
            eps):
    """See functional.lm_head."""
    picked = paddle.take_along_axis(hidden, logit_columns.unsqueeze(-1).astype("int64"), axis=1)
    logits = _linear(_rms_norm(picked, weights["ln_f_weight"], eps), weights["lm_head_weight"]).astype("float32")

    _advance(paddle.argmax(logits[:, -1], axis=-1), lengths, stop_tokens, positions, next_tokens, generated, counts,
             finished)
    return logits


def _advance(token, lengths, stop_tokens, positions, next_tokens, generated, counts, finished):
    """What the chosen tokens [B] do to the rows that are not finished, as ops/kernels/sampling/advance.h."""
    running = finished == 0
    stopped = (token.unsqueeze(1) == stop_tokens.unsqueeze(0)).any(axis=1)
    step = running.astype("int32")
    here = paddle.arange(sizes(generated)[1], dtype="int32").unsqueeze(0) == counts.unsqueeze(1)
    here = paddle.logical_and(here, running.unsqueeze(1))
    paddle.assign(paddle.where(here, token.unsqueeze(1).expand_as(generated), generated), output=generated)
    paddle.assign(counts + step, output=counts)
    paddle.assign(paddle.where(running, token, next_tokens.squeeze(1)).unsqueeze(1), output=next_tokens)
    paddle.assign(paddle.where(running, stopped.astype("int32"), finished), output=finished)
    paddle.assign(positions + lengths * step, output=positions)


def _linear(x, weight, bias=None):
    y = paddle.matmul(x, weight, transpose_y=True)
    return y if bias is None else y + bias


def _layer_norm(x, weight, bias, eps):
    y = F.layer_norm(x.astype("float32"), x.shape[-1], weight.astype("float32"), bias.astype("float32"), eps)
    return y.astype(x.dtype)


def _rms_norm(x, weight, eps):
    y = x.astype("float32")
    y = y * paddle.rsqrt(paddle.mean(y * y, axis=-1, keepdim=True) + eps)
    return y.astype(x.dtype) * weight


def _heads(x, heads):
    """[B, S, heads * D] -> [B, heads, S, D]."""
    return x.reshape([0, 0, heads, x.shape[-1] // heads]).transpose([0, 2, 1, 3])


def _attention(q, k, v, mask=None):
    """[B, heads, S, D] -> [B, S, heads * D]; a query batch of 1 serves every row of k."""
    heads, head_dim = q.shape[1], q.shape[3]
    scores = paddle.matmul(q * (1.0 / math.sqrt(head_dim)), k, transpose_y=True).astype("float32")
    if mask is not None:
        scores = scores + mask
    y = paddle.matmul(F.softmax(scores, axis=-1).astype(v.dtype), v)
    return y.transpose([0, 2, 1, 3]).reshape([0, 0, heads * head_dim])


def _rotate(x, cosine, sine):
    first, second = paddle.split(x, 2, axis=-1)
    return x * cosine + paddle.concat([-second, first], axis=-1) * sine
