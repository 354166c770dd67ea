"""The model's operators, one function each, in two implementations of the same meaning.

`impl="fused"` calls the compiled operator (ops.library must be loaded), `impl="native"` composes plain Paddle layers.
Both work on eager tensors and on the variables of a static program. `weights` maps the roles of ops/weights.py to
tensors, in the roles' order; for native a stacked role may also be a list of its layers. T is the weights' dtype. The
fused decoder and lm_head also take their matrices (ops.weights.MATRICES) in a packed format of ops/formats, which
`format` names then: as lists of tensors, as its packer makes them.
State arguments are updated in place.
"""

from ops import native
from ops.framework import operators
from ops.framework.operators import OPTIONAL
from ops.weights import EXTRA, FORMAT


def resize(image, horizontal, vertical, values, pixels, *, index, columns_first):
    """One photograph made into the encoder's input, on a GPU only, as Pillow's bicubic resize and `values` give it.

    image: u8 [height, width, 3]; horizontal, vertical: i32 [S, 1 + taps], first source pixel and 22-bit fixed-point
    weights of each result (infer.image.resize_table); values: f32 [3, 256], what a channel's values become;
    columns_first: whether the columns are resized before the rows.
    State: pixels f32 [N, 3, S, S], whose image `index` is written.
    """
    inputs = {"image": image, "horizontal": horizontal, "vertical": vertical, "values": values, "pixels": pixels}
    _fused("resize", inputs, {"index": index, "columns_first": columns_first}, {}, state=("pixels",))


def vision_encoder(pixels, weights, *, heads, eps=1e-6, impl="fused"):
    """Patch embedding, position table and transformer blocks of the vision tower.

    pixels: f32 [N, 3, S, S], normalised. Returns T [N, patches, width].
    """
    if impl == "native":
        return native.vision_encoder(pixels, weights, heads, eps)
    return _fused("vision_encoder", {"pixels": pixels, **weights}, {"heads": heads, "eps": eps},
                  {"out": weights["patch_weight"].dtype})["out"]


def resampler(features, weights, image_features, *, heads, eps=1e-6, impl="fused"):
    """Cross-attention of the learned queries over the patches, final norm and projection.

    features: T [N, patches, vision width]. State: image_features T [N, queries, hidden] = the result.
    """
    if impl == "native":
        native.resampler(features, weights, image_features, heads, eps)
    else:
        _fused("resampler", {"features": features, **weights, "image_features": image_features},
               {"heads": heads, "eps": eps}, {}, state=("image_features",))


def embedding(tokens, image_features, image_starts, weights, *, impl="fused"):
    """Token embeddings with image features put over the slots of each image.

    tokens: i64 [B, S]; image_features: T [N, queries, H]; image_starts: i32 [N, 2] = (row, column of the first
    slot), row -1 for an image that is not used. Returns T [B, S, H].
    """
    if impl == "native":
        return native.embedding(tokens, image_features, image_starts, weights)
    inputs = {"tokens": tokens, "image_features": image_features, "image_starts": image_starts, **weights}
    return _fused("embedding", inputs, {}, {"out": weights["token_embedding"].dtype})["out"]


def decoder(hidden, lengths, positions, inv_freq, weights, k_cache, v_cache, *, heads, seq_length, eps, format=None,
            impl="fused"):
    """All decoder layers over the valid tokens of a right-padded batch; serves prefill (S > 1) and decode (S = 1).

    hidden: T [B, S, H]; lengths: i32 [B], valid tokens per row; positions: i32 [B], tokens already cached;
    inv_freq: f32 [B, D/2], rotary frequencies per row; k_cache, v_cache: T [L, B, heads, slots, D], state: token i of
    row b goes to slot positions[b] + i, and positions[b] + S <= slots. seq_length: log-n scaling begins beyond it, 0
    switches it off.
    Returns T [B, S, H]; columns at and beyond lengths[b] mean nothing.
    """
    if impl == "native":
        return native.decoder(hidden, lengths, positions, inv_freq, weights, k_cache, v_cache, heads, seq_length, eps)
    inputs = {"hidden": hidden, "lengths": lengths, "positions": positions, "inv_freq": inv_freq, **_inputs_of(weights),
              "k_cache": k_cache, "v_cache": v_cache}
    attributes = {"heads": heads, "seq_length": seq_length, "eps": eps, FORMAT: format or _type_name(hidden)}
    return _fused("decoder", inputs, attributes, {"out": hidden.dtype}, state=("k_cache", "v_cache"))["out"]


def lm_head(hidden, lengths, logit_columns, stop_tokens, weights, positions, next_tokens, generated, counts, finished,
            sampling=None, *, eps, format=None, impl="fused"):
    """Final norm, logits of the wanted columns, choice of a token from the last of them, and the generation's state.

    hidden: T [B, S, H]; lengths: i32 [B]; logit_columns: i32 [B, P]; stop_tokens: i64 [K].
    State, for rows not finished: next_tokens i64 [B, 1] = the choice (lowest index on ties); generated i64 [B, G] and
    counts i32 [B] = the tokens chosen so far; finished i32 [B] = 1 after a stop token; positions i32 [B] += lengths.
    sampling: i32 [B, 7 + ceil(V / 32)], state, as infer.sampling_parameters.records makes it: how each row is drawn,
    and a bit for each token that it has seen. None or [1, 1]: every row takes its likeliest token. The native
    implementation always does and has no such input.
    Returns f32 [B, P, V].
    """
    if impl == "native":
        return native.lm_head(hidden, lengths, logit_columns, stop_tokens, weights, positions, next_tokens, generated,
                              counts, finished, eps)
    state = {"positions": positions, "next_tokens": next_tokens, "generated": generated, "counts": counts,
             "finished": finished, f"sampling{OPTIONAL}": sampling}
    inputs = {"hidden": hidden, "lengths": lengths, "logit_columns": logit_columns, "stop_tokens": stop_tokens,
              **_inputs_of(weights)}
    attributes = {"eps": eps, FORMAT: format or _type_name(hidden)}
    return _fused("lm_head", {**inputs, **state}, attributes, {"logits": "float32"}, state=tuple(state))["logits"]


def _inputs_of(weights):
    """The inputs that weights are: a tensor for each role, and the list of what a packed format adds to them."""
    packed = [tensors for tensors in weights.values() if isinstance(tensors, list)]
    inputs = {role: tensors[0] if isinstance(tensors, list) else tensors for role, tensors in weights.items()}
    return {**inputs, EXTRA: [tensor for tensors in packed for tensor in tensors[1:]] or None}


def _type_name(tensor):
    """"float16" of paddle.float16."""
    return str(tensor.dtype).rpartition(".")[2]


def _fused(operator, *arguments, state=()):
    """Call or append the compiled operator, see ops.framework.operators.call."""
    return operators.call(f"qwen_vl_{operator}", *arguments, state)
