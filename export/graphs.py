"""The two static graphs as Paddle programs: `vision` (pixels -> image features) and `language` (tokens -> logits).

Inputs, state and outputs are listed in docs/file_formats.md; the names of parameters in ops/weights.py.
"""

from core.config import QUERIES
from ops import functional, library
from ops.framework.programs import graph_input, new_program, parameter, serialized
from ops.weights import STAGES, parameter_shapes

LANGUAGE_INPUTS = {  # name -> (shape without the model's sizes filled in, dtype; None: the weights' dtype)
    "tokens": (lambda c: [-1, -1], "int64"),
    "lengths": (lambda c: [-1], "int32"),
    "image_features": (lambda c: [-1, QUERIES, c.hidden_size], None),
    "image_starts": (lambda c: [-1, 2], "int32"),
    "inv_freq": (lambda c: [-1, c.kv_channels // 2], "float32"),
    "logit_columns": (lambda c: [-1, -1], "int32"),
    "stop_tokens": (lambda c: [-1], "int64"),
    "positions": (lambda c: [-1], "int32"),
    "next_tokens": (lambda c: [-1, 1], "int64"),
    "generated": (lambda c: [-1, -1], "int64"),
    "counts": (lambda c: [-1], "int32"),
    "finished": (lambda c: [-1], "int32"),
    "k_cache": (lambda c: [c.num_hidden_layers, -1, c.num_attention_heads, -1, c.kv_channels], None),
    "v_cache": (lambda c: [c.num_hidden_layers, -1, c.num_attention_heads, -1, c.kv_channels], None),
}
FUSED_INPUTS = {"sampling": (lambda c: [-1, -1], "int32")}


def build_program(graph, config, dtype, impl):
    """Build one graph ("vision" or "language") and return its serialized program, the content of its file.

    dtype: the weights' ("float32", "float16", "bfloat16"); impl: "fused" or "native".
    """
    if impl == "fused":
        library.load()
    with new_program() as program:
        weights = _parameters(program, graph, config, dtype, impl)
        return serialized(program, *(_vision if graph == "vision" else _language)(config, dtype, impl, weights))


def _parameters(program, graph, config, dtype, impl):
    """Declare every parameter and return operator -> role -> variable (a list of them where layers are separate)."""
    weights = {operator: {} for operator in STAGES[graph]}
    for name, shape in parameter_shapes(config, graph, impl).items():
        operator, role, *layer = name.split(".")
        variable = parameter(program, name, shape, dtype)
        if layer:
            weights[operator].setdefault(role, []).append(variable)
        else:
            weights[operator][role] = variable
    return weights


def _vision(config, dtype, impl, weights):
    vision = config.visual
    pixels = graph_input("pixels", [-1, 3, vision.image_size, vision.image_size], "float32")
    image_features = graph_input("image_features", [-1, QUERIES, config.hidden_size], dtype)
    features = functional.vision_encoder(pixels, weights["vision_encoder"], heads=vision.heads, impl=impl)
    functional.resampler(features, weights["resampler"], image_features, heads=vision.resampler_heads, impl=impl)
    return ["pixels", "image_features"], image_features


def _language(config, dtype, impl, weights):
    data = {name: graph_input(name, shape(config), kind or dtype)
            for name, (shape, kind) in (LANGUAGE_INPUTS | (FUSED_INPUTS if impl == "fused" else {})).items()}
    hidden = functional.embedding(data["tokens"], data["image_features"], data["image_starts"], weights["embedding"],
                                  impl=impl)
    hidden = functional.decoder(
        hidden, data["lengths"], data["positions"], data["inv_freq"], weights["decoder"], data["k_cache"],
        data["v_cache"], heads=config.num_attention_heads, seq_length=config.seq_length if config.use_logn_attn else 0,
        eps=config.layer_norm_epsilon, impl=impl)
    state = {name: data[name] for name in ("positions", "next_tokens", "generated", "counts", "finished")}
    logits = functional.lm_head(hidden, data["lengths"], data["logit_columns"], data["stop_tokens"], weights["lm_head"],
                                **state, sampling=data.get("sampling"), eps=config.layer_norm_epsilon, impl=impl)
    return list(data), logits
