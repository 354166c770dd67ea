"""Stand-ins on the CPU for the operators that only Paddle's GPU wheel has: paddlenlp's QWenForQWenVLInferenceModel then
runs there over paddlenlp_ops. Import it before that model is made."""

from ops.framework import import_paddle

paddle = import_paddle()
F = paddle.nn.functional

from paddlenlp.experimental.transformers import fused_transformer_layers as layers  # noqa: E402


def rms_norm(x, norm_weight, norm_bias, epsilon, begin_norm_axis, bias=None, residual=None):
    """RMSNorm of x + residual; with a residual (normed, the sum)."""
    whole = x if residual is None else x + residual.reshape(x.shape)
    normed = whole * paddle.rsqrt(whole.square().mean(-1, keepdim=True) + epsilon) * norm_weight
    return normed if residual is None else (normed, whole)


def add_residual(x, norm_weight, norm_bias, epsilon, begin_norm_axis, bias=None, residual=None):
    """LayerNorm without weights, as the last layer calls it: the sum alone."""
    assert norm_weight is None and norm_bias is None
    return (x + residual.reshape(x.shape),)


def prompt_attention(query, key, value, seq_lens, kv_seq_lens, mask, scale):
    """[B, H, S, D]; `mask` is added."""
    columns = query.shape[2]
    scores = paddle.matmul(query, key, transpose_y=True) * scale + mask[:, :, :columns, :columns]
    return paddle.matmul(F.softmax(scores), value)


def decode_attention(x, cache_kv, src_mask, sequence_lengths, rotary_tensor, rotary_emb_dims, use_neox_rotary_style):
    """One token per row: x [B, 3 * H * D]; keys lie in the cache as [D / 4, slots, 4], values as [slots, D]."""
    assert use_neox_rotary_style and rotary_emb_dims == 1
    _, batch, heads, slots, width = cache_kv.shape
    q, k, v = x.reshape([batch, 3, heads, width]).unbind(1)
    cos, sin = rotary_tensor[0, :, 0], rotary_tensor[1, :, 0]

    def rotate(values):
        return values * cos + paddle.concat([-values[..., width // 2:], values[..., :width // 2]], -1) * sin

    key_cache = cache_kv[0].reshape([batch, heads, width // 4, slots, 4]).transpose([0, 1, 3, 2, 4])
    key_cache, value_cache = key_cache.reshape([batch, heads, slots, width]), cache_kv[1]
    outputs = []
    for row in range(batch):
        slot = int(sequence_lengths[row])
        new_key, new_value = rotate(k)[row].unsqueeze(1), v[row].unsqueeze(1)
        keys = paddle.concat([key_cache[row, :, :slot], new_key], 1)
        values = paddle.concat([value_cache[row, :, :slot], new_value], 1)
        scores = paddle.matmul(rotate(q)[row].unsqueeze(1), keys, transpose_y=True) * width ** -0.5
        outputs.append(paddle.matmul(F.softmax(scores + src_mask[row, :, :, :slot + 1]), values).reshape([-1]))
        keys_of_row = cache_kv[0, row].reshape([heads, width // 4, slots, 4])
        keys_of_row[:, :, slot] = new_key.reshape([heads, width // 4, 4])
        cache_kv[0, row] = keys_of_row.reshape([heads, slots, width])
        cache_kv[1, row, :, slot] = new_value.squeeze(1)
    return (paddle.stack(outputs),)


def swiglu(x, bias, act_method):
    assert act_method == "swiglu" and bias is None
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


def most_likely(probabilities, _):
    return probabilities.max(-1, keepdim=True), probabilities.argmax(-1, keepdim=True)


paddle.version.cuda = lambda: "11.0"  # the path without a fused matrix product
paddle.incubate.nn.functional.fused_rms_norm = layers.fused_rms_norm = rms_norm
layers.fused_layer_norm = add_residual
layers.variable_length_memory_efficient_attention = prompt_attention
layers.masked_multihead_attention = decode_attention
layers.fused_act_bias_wrapper = swiglu
paddle.tensor.top_p_sampling = most_likely
