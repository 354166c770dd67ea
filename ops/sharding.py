"""How each weight would be cut over a world of devices: tensor parallelism, of which nothing runs yet.

Heads and rows of the MLP are divided among the ranks, so that attention and MLP need one sum over all ranks each: of
what their second matrix, cut by columns, gives. A rank holds whole what is added to that sum (biases), norms, tables,
and the resampler, whose matrices are one in a hundred weights. The head is cut by rows of the vocabulary: ranks then
compare their likeliest tokens. Two devices divide the published geometry; four would take apart 128 columns of the
decoder's `down_weight` that a packed format keeps together.
"""

from dataclasses import dataclass

from ops.weights import STAGES, stacked_layers

ROWS, COLUMNS = 0, 1


@dataclass(frozen=True)
class Cut:
    """A role's tensor, of one layer, is cut along `axis` into a share for each rank.

    blocks: parts of the axis that lie one after the other and are each cut alike (q|k|v, gate|up); by_heads: the axis
    is one of heads, none of which is taken apart.
    """

    axis: int
    blocks: int = 1
    by_heads: bool = False


WHOLE = None
CUTS = {  # operator -> role -> Cut
    "vision_encoder": {
        "patch_weight": WHOLE, "position": WHOLE, "ln_pre_weight": WHOLE, "ln_pre_bias": WHOLE,
        "ln_1_weight": WHOLE, "ln_1_bias": WHOLE,
        "qkv_weight": Cut(ROWS, blocks=3, by_heads=True), "qkv_bias": Cut(ROWS, blocks=3, by_heads=True),
        "out_weight": Cut(COLUMNS, by_heads=True), "out_bias": WHOLE,
        "ln_2_weight": WHOLE, "ln_2_bias": WHOLE,
        "fc1_weight": Cut(ROWS), "fc1_bias": Cut(ROWS), "fc2_weight": Cut(COLUMNS), "fc2_bias": WHOLE,
    },
    "resampler": dict.fromkeys((
        "kv_proj_weight", "ln_kv_weight", "ln_kv_bias", "query", "key_value_weight", "key_bias", "value_bias",
        "out_weight", "out_bias", "ln_post_weight", "ln_post_bias", "proj_weight"), WHOLE),
    "embedding": {"token_embedding": WHOLE},
    "decoder": {
        "ln_1_weight": WHOLE,
        "qkv_weight": Cut(ROWS, blocks=3, by_heads=True), "qkv_bias": Cut(ROWS, blocks=3, by_heads=True),
        "out_weight": Cut(COLUMNS, by_heads=True),
        "ln_2_weight": WHOLE,
        "gate_up_weight": Cut(ROWS, blocks=2), "down_weight": Cut(COLUMNS),
    },
    "lm_head": {"ln_f_weight": WHOLE, "lm_head_weight": Cut(ROWS)},
}


def shares(config, operator, role, placement):
    """(first, end) of each part of the cut axis that the placement's rank holds; None where it holds the whole.

    Raises ValueError where the role's heads, rows or columns do not divide by the world's size.
    """
    cut = CUTS[operator][role]
    if cut is WHOLE:
        return None
    shape = next(roles for stage in STAGES.values() for name, roles in stage.items() if name == operator)(config)[role]
    size = shape[(stacked_layers(config, operator, role) is not None) + cut.axis] // cut.blocks
    heads = config.visual.heads if operator == "vision_encoder" else config.num_attention_heads
    units = heads if cut.by_heads else size
    if units % placement.world:
        raise ValueError(f"{operator}.{role}: {units} {'heads' if cut.by_heads else 'rows or columns'} do not divide "
                         f"by {placement.world}")
    share = size // placement.world
    return [(block * size + placement.rank * share, block * size + (placement.rank + 1) * share)
            for block in range(cut.blocks)]
