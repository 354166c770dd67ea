"""Fills the operators' roles (ops/weights.py) from a checkpoint: each role as a stream of blocks of rows.

At most one tensor of one layer is in memory, whatever the size of the stacked one.
"""

import numpy as np

from export import fold
from export.dtypes import cast
from export.names import KV_PROJ
from ops import formats
from ops.weights import CODES, padded_patch_values, stacked_layers

POOL = "transformer.visual.attn_pool."
COPIED = {  # role -> tensor
    "vision_encoder.ln_pre_weight": "transformer.visual.ln_pre.weight",
    "vision_encoder.ln_pre_bias": "transformer.visual.ln_pre.bias",
    "resampler.ln_kv_weight": POOL + "ln_kv.weight",
    "resampler.ln_kv_bias": POOL + "ln_kv.bias",
    "resampler.out_weight": POOL + "attn.out_proj.weight",
    "resampler.out_bias": POOL + "attn.out_proj.bias",
    "resampler.ln_post_weight": "transformer.visual.ln_post.weight",
    "resampler.ln_post_bias": "transformer.visual.ln_post.bias",
    "embedding.token_embedding": "transformer.wte.weight",
    "lm_head.ln_f_weight": "transformer.ln_f.weight",
    "lm_head.lm_head_weight": "lm_head.weight",
}
VISION_LAYERS = {  # role -> tensor of a layer
    "ln_1_weight": "ln_1.weight", "ln_1_bias": "ln_1.bias",
    "out_weight": "attn.out_proj.weight", "out_bias": "attn.out_proj.bias",
    "ln_2_weight": "ln_2.weight", "ln_2_bias": "ln_2.bias",
    "fc1_weight": "mlp.c_fc.weight", "fc1_bias": "mlp.c_fc.bias",
    "fc2_weight": "mlp.c_proj.weight", "fc2_bias": "mlp.c_proj.bias",
}
DECODER_LAYERS = {  # role -> tensors of a layer, one under the other
    "ln_1_weight": ["ln_1.weight"],
    "qkv_weight": ["attn.c_attn.weight"], "qkv_bias": ["attn.c_attn.bias"],
    "out_weight": ["attn.c_proj.weight"],
    "ln_2_weight": ["ln_2.weight"],
    "gate_up_weight": ["mlp.w2.weight", "mlp.w1.weight"],
    "down_weight": ["mlp.c_proj.weight"],
}


def stacked(checkpoint, parameter, dtype):
    """Yield parameter `<operator>.<role>` or `<operator>.<role>.<layer>` of an open Checkpoint as contiguous arrays
    that follow each other; `<operator>.<role>.codes` and the others of CODES as a quantised one has them.

    dtype: name of the target type (bfloat16 comes as uint16). Raises UserError naming the tensor whose values do
    not fit it.
    """
    matrix, _, kind = parameter.rpartition(".")
    if kind in CODES:
        for name in decoder_tensors(checkpoint.config, matrix):
            yield checkpoint.tensors[name].array(kind)
        return
    for array, source, name in _blocks(checkpoint, parameter):
        yield np.ascontiguousarray(cast(array, source, dtype, name))


def _blocks(checkpoint, parameter):
    """(array, its type's name, tensor name) of each block."""
    config, tensors = checkpoint.config, checkpoint.tensors
    operator, role, *layer = parameter.split(".")
    layers = [int(layer[0])] if layer else range(stacked_layers(config, operator, role) or 0)

    def copied(name):
        for block in tensors[name].blocks():
            yield block, tensors[name].dtype, name

    def computed(array, name):
        yield np.asarray(array, np.float32), "float32", name

    def read(name):
        return formats.get(tensors[name].dtype).unpack(tensors[name].read())

    if parameter in COPIED:
        yield from copied(COPIED[parameter])
    elif operator == "vision_encoder":
        yield from _vision_encoder(config, role, layers, tensors, copied, computed, read)
    elif operator == "resampler":
        yield from _resampler(config, role, tensors, copied, computed, read)
    else:
        for name in decoder_tensors(config, f"{operator}.{role}", layers):
            yield from copied(name)


def decoder_tensors(config, parameter, layers=None):
    """Names of the tensors that a parameter of the decoder stacks, of some layers or of all."""
    _, role = parameter.split(".")
    return [f"transformer.h.{layer}.{name}" for layer in layers or range(config.num_hidden_layers)
            for name in DECODER_LAYERS[role]]


def _vision_encoder(config, role, layers, tensors, copied, computed, read):
    v = config.visual
    if role == "patch_weight":
        name = "transformer.visual.conv1.weight"
        rows = read(name).reshape(v.width, v.patch_values)
        yield from computed(np.pad(rows, ((0, 0), (0, padded_patch_values(config) - v.patch_values))), name)
    elif role == "position":
        name = "transformer.visual.positional_embedding"
        yield from computed(fold.resize_positions(read(name), v.grid), name)
    else:
        for layer in layers:
            prefix = f"transformer.visual.transformer.resblocks.{layer}."
            if role in VISION_LAYERS:
                yield from copied(prefix + VISION_LAYERS[role])
                continue
            name = prefix + role.replace("qkv_", "attn.in_proj.")
            for part in fold.split_heads(tensors[name].read(), v.heads):
                yield part, tensors[name].dtype, name


def _resampler(config, role, tensors, copied, computed, read):
    v = config.visual
    e = v.output_dim
    weight, bias = POOL + "attn.in_proj_weight", POOL + "attn.in_proj_bias"

    def rows(name, first, last):
        return formats.get(tensors[name].dtype).unpack(tensors[name].rows(first, last))

    if role == "kv_proj_weight":
        yield from copied(KV_PROJ) if KV_PROJ in tensors else computed(np.eye(e), KV_PROJ)
    elif role == "query":
        yield from computed(fold.resampler_query(
            read(POOL + "query"), read(POOL + "ln_q.weight"), read(POOL + "ln_q.bias"), read(POOL + "pos_embed"),
            rows(weight, 0, e), rows(bias, 0, e)), POOL + "query")
    elif role == "key_bias":
        yield from computed(fold.resampler_key_bias(
            read(POOL + "pos_embed"), v.grid, rows(weight, e, 2 * e), rows(bias, e, 2 * e)), POOL + "pos_embed")
    elif role == "key_value_weight":
        yield tensors[weight].rows(e, 3 * e), tensors[weight].dtype, weight
    elif role == "value_bias":
        yield tensors[bias].rows(2 * e, 3 * e), tensors[bias].dtype, bias
    else:
        for block in tensors["transformer.visual.proj"].transposed.blocks():
            yield block, tensors["transformer.visual.proj"].dtype, "transformer.visual.proj"
