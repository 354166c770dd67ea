"""Times the ways to do a model's matrix products on a GPU, once, after its graphs are loaded: no request does it.

A product can be done by kernels of our own in several shapes of tiles, or by some fifty algorithms of cuBLASLt; which
is the fastest depends on its rows. All products of the model are timed here with the counts of rows between which the
choice may change (rungs), through the operators themselves; what has other rows takes the choice of the next rung
(ops/kernels/products/gemm.h).
"""

import contextlib
import ctypes

import numpy as np

from ops import formats, functional, library
from ops.framework import devices, import_paddle
from ops.framework.tensors import rows, upload

paddle = import_paddle()

LAYERS = 4           # of the decoder, whose matrices together are more than a GPU's L2 cache holds, as all of them are
IMAGES = (1, 2)      # several images are products of another kind where they share an addend, otherwise more rows
EPSILON = 1e-6


def rungs():
    """The counts of rows that products are timed with, ascending."""
    rung = library.kernels().qwen_vl_gemm_rung
    rung.argtypes, rung.restype = [ctypes.c_longlong], ctypes.c_longlong
    ascending = [rung(1)]
    while rung(ascending[-1] + 1) > ascending[-1]:
        ascending.append(rung(ascending[-1] + 1))
    return ascending


@contextlib.contextmanager
def _timing():
    """Products of this thread are timed meanwhile."""
    switch = library.kernels().qwen_vl_gemm_tuning
    before = switch(1)
    try:
        yield
    finally:
        switch(before)


def time_products(config, weights, dtype, placement, kept=None):
    """Time the products of a model on a GPU; a model of the same sizes as one before costs no timing.

    weights: {operator: weights} of the fused graphs, or of one of them, as ops.functional takes them, in the formats
    that `kept` names (ops.formats.of_both); dtype: of activations.
    """
    rng = np.random.default_rng(0)
    with _timing():
        for images in IMAGES if "vision_encoder" in weights else ():
            _vision(rng, config.visual, weights["vision_encoder"], weights["resampler"], images, dtype, placement)
        if "decoder" in weights:
            _language(rng, config, weights["decoder"], weights["lm_head"], dtype, placement,
                      *formats.of_both(kept or dtype))
    devices.synchronize()
    devices.release_memory()  # what was made for it


def _vision(rng, visual, encoder, resampler, images, dtype, placement):
    pixels = rng.standard_normal([images, 3, visual.image_size, visual.image_size]).astype(np.float32)
    features = functional.vision_encoder(upload(pixels, placement), encoder, heads=visual.heads)
    queries, width = resampler["query"].shape
    functional.resampler(features, resampler, paddle.empty([images, queries, width], dtype),
                         heads=visual.resampler_heads)


def _language(rng, config, decoder, head, dtype, placement, decoder_format, head_format):
    layers, heads, width = min(LAYERS, config.num_hidden_layers), config.num_attention_heads, config.kv_channels
    few = {role: [rows(part, 0, layers) for part in weight] if isinstance(weight, list) else rows(weight, 0, layers)
           for role, weight in decoder.items()}
    counts = rungs()
    states = upload(rng.standard_normal([counts[-1], config.hidden_size]).astype(np.float32), placement, dtype)
    caches = [paddle.empty([layers, 1, heads, counts[-1], width], dtype) for _ in "kv"]
    inv_freq = upload(np.ones([1, width // 2], np.float32), placement)

    def integers(*values, kind=np.int32):
        return upload(np.array(values, kind), placement)

    for count in counts:
        hidden = rows(states, 0, count).reshape([1, count, config.hidden_size])
        functional.decoder(hidden, integers(count), integers(0), inv_freq, few, *caches, heads=heads, seq_length=0,
                           eps=EPSILON, format=decoder_format.name)
    # The head takes the last token of each prompt: few rows, which all have the first rung or are near it.
    few = rows(states, 0, counts[0]).reshape([1, counts[0], config.hidden_size])
    functional.lm_head(few, integers(0), integers(range(counts[0])), integers(-1, kind=np.int64), head, integers(0),
                       integers([0], kind=np.int64), integers([0], kind=np.int64), integers(0), integers(0),
                       eps=EPSILON, format=head_format.name)
