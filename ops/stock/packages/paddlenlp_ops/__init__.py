"""The operators that the inference models of paddlenlp 2.8.1 call: docs/stock.md says what each one does.

They run on the CPU and, where they were built with nvcc, on a GPU; in dynamic and in static mode.
"""

from paddlenlp_ops import loading
from paddlenlp_ops.built import VERSION as __version__  # noqa: F401

loading.load()

from paddlenlp_ops.generated import (  # noqa: E402, F401  their library must be loaded first
    encode_rotary_qk,
    fused_get_rotary_embedding,
    get_padding_offset,
    get_padding_offset_v2,
    get_token_penalty_multi_scores,
    get_token_penalty_multi_scores_v2,
    qkv_transpose_split,
    rebuild_padding,
    rebuild_padding_v2,
    save_with_output,
    set_stop_value_multi_ends,
    set_stop_value_multi_ends_v2,
    set_value_by_flags_and_idx,
    set_value_by_flags_and_idx_v2,
    transpose_remove_padding,
    write_cache_kv,
)


def _missing(name, used_by):
    def operator(*_, **__):
        raise NotImplementedError(f"paddlenlp_ops.{name} is not part of this package: only {used_by} calls it")

    operator.__name__ = operator.__qualname__ = name
    return operator


update_inputs = _missing("update_inputs", "generation with a paged cache (block_attn)")
save_output = _missing("save_output", "generation with a paged cache (block_attn)")
quant_int8 = _missing("quant_int8", "inference with 8-bit activations (a8w8)")
dequant_int8 = _missing("dequant_int8", "inference with 8-bit activations (a8w8)")
