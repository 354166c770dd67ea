"""The operators' weights: one stacked tensor per role, rows [out, in], and the role's shape.

This table is the contract between export (which fills the roles from a checkpoint), the operators (which take
them in this order) and the graphs' parameter files. There a parameter is called `<operator>.<role>`; plain Paddle
layers would copy a layer out of a stacked tensor on every call, so the native implementation gets its layers one by
one, as `<operator>.<role>.<layer>`.

L layers, W vision width, M vision MLP width, E resampler width = H hidden size, P patches, Q queries, F half of
intermediate_size, V vocabulary.
"""

from core.config import QUERIES
from ops import formats

ALIGNMENT = 8  # values; rows of every matrix start 16-byte aligned in fp16


def padded_patch_values(config):
    """Columns of the patch matrix: 3 * patch_size^2 rounded up; the columns added are zero."""
    return -(-config.visual.patch_values // ALIGNMENT) * ALIGNMENT


def vision_encoder_roles(config):
    """Roles of the vision encoder: role -> shape.

    `patch_weight` has (channel, row, column) columns; `position` is the table resized to the patch grid;
    `qkv` is q|k|v blocks (the checkpoint interleaves them per head).
    """
    v = config.visual
    layers, width, mlp = v.layers, v.width, v.mlp_width
    return {
        "patch_weight": [width, padded_patch_values(config)],
        "position": [v.patches, width],
        "ln_pre_weight": [width], "ln_pre_bias": [width],
        "ln_1_weight": [layers, width], "ln_1_bias": [layers, width],
        "qkv_weight": [layers, 3 * width, width], "qkv_bias": [layers, 3 * width],
        "out_weight": [layers, width, width], "out_bias": [layers, width],
        "ln_2_weight": [layers, width], "ln_2_bias": [layers, width],
        "fc1_weight": [layers, mlp, width], "fc1_bias": [layers, mlp],
        "fc2_weight": [layers, width, mlp], "fc2_bias": [layers, width],
    }


def resampler_roles(config):
    """Roles of the resampler: role -> shape.

    What does not depend on the image is folded at export, in fp32: `query` is
    q_proj(ln_q(query) + pos_embed) with its bias; `key_bias` is k_proj(pos_embed resized) with its bias, one row
    per patch; `key_value_weight` is k|v blocks. `proj_weight` is the checkpoint's `proj` transposed.
    """
    v = config.visual
    e = v.output_dim
    return {
        "kv_proj_weight": [e, v.width],
        "ln_kv_weight": [e], "ln_kv_bias": [e],
        "query": [QUERIES, e],
        "key_value_weight": [2 * e, e], "key_bias": [v.patches, e], "value_bias": [e],
        "out_weight": [e, e], "out_bias": [e],
        "ln_post_weight": [e], "ln_post_bias": [e],
        "proj_weight": [e, e],
    }


def embedding_roles(config):
    """Roles of the embedding: role -> shape."""
    return {"token_embedding": [config.vocab_size, config.hidden_size]}


def decoder_roles(config):
    """Roles of the decoder stack: role -> shape. `qkv` is q|k|v blocks, `gate_up` is w2 (gate) then w1 (up)."""
    layers, hidden, mlp = config.num_hidden_layers, config.hidden_size, config.mlp_width
    return {
        "ln_1_weight": [layers, hidden],
        "qkv_weight": [layers, 3 * hidden, hidden], "qkv_bias": [layers, 3 * hidden],
        "out_weight": [layers, hidden, hidden],
        "ln_2_weight": [layers, hidden],
        "gate_up_weight": [layers, 2 * mlp, hidden],
        "down_weight": [layers, hidden, mlp],
    }


def lm_head_roles(config):
    """Roles of the final norm and the output projection: role -> shape."""
    return {"ln_f_weight": [config.hidden_size], "lm_head_weight": [config.vocab_size, config.hidden_size]}


STAGES = {  # graph -> operator -> its roles
    "vision": {"vision_encoder": vision_encoder_roles, "resampler": resampler_roles},
    "language": {"embedding": embedding_roles, "decoder": decoder_roles, "lm_head": lm_head_roles},
}


# Parameters of the fused language graph that may be kept in a packed format (ops/formats), all of them in the same: a
# decode step reads each of them whole. In the order in which their operators take what a format adds to them.
MATRICES = ("decoder.qkv_weight", "decoder.out_weight", "decoder.gate_up_weight", "decoder.down_weight",
            "lm_head.lm_head_weight")
HEAD = MATRICES[-1]
CODES = ("codes", "scales", "zeros")   # arrays of Codes
FORMAT, EXTRA = "format", "extra@VECTOR@OPTIONAL"  # these operators' attribute, and the input of what a format adds
WHOLE_ENCODER_ROLES = ("patch_weight", "position", "ln_pre_weight", "ln_pre_bias")


def stacked_layers(config, operator, role):
    """How many layers a role stacks in its first dimension; None for a role that belongs to no layer."""
    if operator == "decoder":
        return config.num_hidden_layers
    return config.visual.layers if operator == "vision_encoder" and role not in WHOLE_ENCODER_ROLES else None


def parameter_shapes(config, graph, impl="fused"):
    """Every parameter of a graph ("vision" or "language") as `impl` stores it: name -> shape."""
    shapes = {}
    for operator, roles in STAGES[graph].items():
        for role, shape in roles(config).items():
            layers = stacked_layers(config, operator, role)
            if impl == "native" and layers is not None:
                shapes.update({f"{operator}.{role}.{layer}": shape[1:] for layer in range(layers)})
            else:
                shapes[f"{operator}.{role}"] = shape
    return shapes


def stored_parameters(config, graph, dtype, impl="fused", quantised=None):
    """What an export's file of parameters holds: {name: (shape, dtype's name)}.

    quantised: the Quantisation of a checkpoint whose decoder's matrices a fused graph keeps as it has them: each is
    stored as the arrays of its Codes, with their names behind its own.
    """
    stored = {}
    for name, shape in parameter_shapes(config, graph, impl).items():
        if quantised is None or impl != "fused" or name not in MATRICES or name == HEAD:
            stored[name] = shape, dtype
            continue
        groups = [*shape[:-1], quantised.groups(shape[-1])]
        for array, kind in quantised.types.items():
            stored[f"{name}.{array}"] = shape if array == "codes" else groups, kind
    return stored


def tensor_names(matrix, format):
    """Names of the tensors of a matrix in a packed format."""
    return [matrix, f"{matrix}.{format.extra}"] if format.extra else [matrix]


def _bytes(shapes, dtype, weights):
    """Bytes of parameters, name -> shape, of this dtype, whose matrices are in the formats that `weights` names."""
    decoder, head = formats.of_both(weights or dtype)
    kept = {name: head if name == HEAD else decoder for name in MATRICES}
    return sum(kept.get(name, formats.get(dtype)).bytes(shape) for name, shape in shapes.items())


def weights_bytes(config, dtype, weights=""):
    """Bytes of all parameters of both graphs, with matrices in the formats that `weights` names, "" in the dtype."""
    return sum(_bytes(parameter_shapes(config, graph), dtype, weights) for graph in STAGES)


def decode_bytes(config, dtype, weights=""):
    """Bytes of weights that one decode step reads: decoder, final norm and lm_head; of the embedding only rows."""
    shapes = parameter_shapes(config, "language")
    return _bytes({name: shape for name, shape in shapes.items() if not name.startswith("embedding.")}, dtype, weights)
