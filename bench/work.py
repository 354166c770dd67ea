"""What a case asks of the device: bytes and floating-point operations, from the geometry alone."""

from math import prod

from core.config import QUERIES
from ops.weights import decode_bytes, decoder_roles, resampler_roles, vision_encoder_roles, weights_bytes


def _matrices(roles, *names):
    return sum(prod(roles[name]) for name in names)


def decoder_matrices(config):
    """Number of weights in the matrices of all decoder layers."""
    return _matrices(decoder_roles(config), "qkv_weight", "out_weight", "gate_up_weight", "down_weight")


def vision_flops(config, images):
    """Operations of the encoder and the resampler for `images` images; a multiply and an add are two."""
    v, e = config.visual, config.visual.output_dim
    encoder, pool = vision_encoder_roles(config), resampler_roles(config)
    per_patch = (_matrices(encoder, "patch_weight", "qkv_weight", "out_weight", "fc1_weight", "fc2_weight")
                 + _matrices(pool, "kv_proj_weight", "key_value_weight"))
    products = v.patches * per_patch + QUERIES * _matrices(pool, "out_weight", "proj_weight")
    attention = 2 * v.patches ** 2 * v.width * v.layers + 2 * QUERIES * v.patches * e
    return 2 * images * (products + attention)


def prefill_flops(config, batch, prompt_tokens):
    """Operations of a prefill, causal attention by half its square, logits of the last position only."""
    products = prompt_tokens * decoder_matrices(config)
    attention = prompt_tokens ** 2 * config.hidden_size * config.num_hidden_layers
    return 2 * batch * (products + attention + config.vocab_size * config.hidden_size)


def matrix_shapes(config, batch, prompt_tokens):
    """{"vision", "prefill"}: the products (rows, out, in) of one layer."""
    v, hidden, mlp = config.visual, config.hidden_size, config.mlp_width
    vision, prompt = batch * v.patches, batch * prompt_tokens
    return {
        "vision": [(vision, 3 * v.width, v.width), (vision, v.width, v.width), (vision, v.mlp_width, v.width),
                   (vision, v.width, v.mlp_width)],
        "prefill": [(prompt, 3 * hidden, hidden), (prompt, hidden, hidden), (prompt, 2 * mlp, hidden),
                    (prompt, hidden, mlp)],
    }


def work(case, config):
    """Everything above for a Case, as rows store it."""
    return {"weights_bytes": weights_bytes(config, case.dtype), "decode_bytes": decode_bytes(config, case.dtype),
            "vision_flops": vision_flops(config, case.batch),
            "prefill_flops": prefill_flops(config, case.batch, case.prompt_tokens)}
