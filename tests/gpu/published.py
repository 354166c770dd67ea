"""The published 7B geometry with few layers and random weights on the GPU, run through Paddle's operators."""

import dataclasses
import json
import time

import numpy as np

from core.config import QUERIES, ModelConfig
from core.placement import Placement
from export.synthetic import PRESETS
from infer.image import NORMALISED, resize_table, resizes_columns_first
from ops import formats, functional, library, product_timing
from ops.framework import devices, import_paddle
from ops.framework.tensors import upload
from ops.weights import MATRICES, STAGES

paddle = import_paddle()
GPU = Placement("gpu")
REPEATED = 1 << 20  # random values of a matrix, one after the other
SLOTS = 1088


def geometry(layers):
    """The preset 7b with so many layers in encoder and decoder."""
    raw = json.loads((PRESETS / "7b.json").read_text(encoding="utf-8"))
    preset = ModelConfig.from_dict(raw, "preset 7b")
    visual = dataclasses.replace(preset.visual, layers=layers)
    return dataclasses.replace(preset, num_hidden_layers=layers, visual=visual)


class Model:
    """Weights and state on the GPU, with matrices in a format."""

    def __init__(self, layers, format):
        library.load()
        devices.use(GPU)
        self.config, self.format, self.dtype = geometry(layers), format, formats.get(format).values
        self._rng = np.random.default_rng(0)
        self.weights = {operator: {role: self._weight(f"{operator}.{role}", shape)
                                   for role, shape in roles(self.config).items()}
                        for stage in STAGES.values() for operator, roles in stage.items()}
        self._caches, self._states = {}, {}

    def _weight(self, name, shape):
        centre = 1.0 if name.endswith("weight") and "ln" in name else 0.0
        values = self._rng.standard_normal(min(REPEATED, int(np.prod(shape)))) / np.sqrt(shape[-1]) + centre
        bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)  # bfloat16, which Paddle takes as u2
        if self.dtype == "float16":
            bits = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
        matrix = np.resize(bits, shape)
        if self.format != self.dtype and name in MATRICES:
            return formats.packed_tensors(self.format, matrix, GPU)
        return upload(matrix, GPU)

    def tune(self):
        product_timing.time_products(self.config, self.weights, self.dtype, GPU, self.format)

    def image(self):
        """A photograph through resize, encoder and resampler: [1, 256, H]."""
        visual, (height, width) = self.config.visual, (600, 500)
        for columns_first in (resizes_columns_first(width, height, visual.image_size), True, False):
            pixels = upload(np.zeros([1, 3, visual.image_size, visual.image_size], np.float32), GPU)
            functional.resize(upload(np.full([height, width, 3], 90, np.uint8), GPU),
                              upload(resize_table(width, visual.image_size), GPU),
                              upload(resize_table(height, visual.image_size), GPU), upload(NORMALISED, GPU), pixels,
                              index=0, columns_first=columns_first)
        encoded = functional.vision_encoder(pixels, self.weights["vision_encoder"], heads=visual.heads)
        features = paddle.empty([1, QUERIES, self.config.hidden_size], self.dtype)
        functional.resampler(encoded, self.weights["resampler"], features, heads=visual.resampler_heads)
        return features

    def call(self, batch, columns, past=0, sampled=False):
        """The language graph's operators over `batch` rows of `columns` new tokens after `past`; returns the logits.

        Its inputs stay where they are from call to call, as an engine's do, and are the same each time.
        """
        return self._run(self._state(batch, columns, past, sampled))

    def seconds(self, *args):
        """Seconds of a call, from an idle device until it is done; its inputs are there before."""
        state = self._state(*args)
        devices.synchronize()
        start = time.perf_counter()
        self._run(state)
        devices.synchronize()
        return time.perf_counter() - start

    def forget_inputs(self):
        """Calls from now on make their inputs anew, as a request does."""
        self._states.clear()

    def _run(self, state):
        config = self.config
        hidden = functional.embedding(state["tokens"], state["features"], state["starts"], self.weights["embedding"])
        hidden = functional.decoder(
            hidden, state["lengths"], state["positions"], state["inv_freq"], self.weights["decoder"],
            *self._cache(len(state["tokens"])), heads=config.num_attention_heads, seq_length=config.seq_length,
            eps=1e-6, format=self.format)
        head = [state[name] for name in ("lengths", "columns", "stops")]
        chosen = [state[name] for name in ("positions", "next", "generated", "counts", "finished")]
        return functional.lm_head(hidden, *head, self.weights["lm_head"], *chosen, state["sampling"], eps=1e-6,
                                  format=self.format)

    def _cache(self, batch):
        config = self.config
        if batch not in self._caches:
            shape = [config.num_hidden_layers, batch, config.num_attention_heads, SLOTS, config.kv_channels]
            self._caches = {batch: [paddle.empty(shape, self.dtype) for _ in "kv"]}
        return self._caches[batch]

    def _state(self, *which):
        if which not in self._states:
            self._states[which] = self._make_state(*which)
        return self._states[which]

    def _make_state(self, batch, columns, past=0, sampled=False):
        config, arrays = self.config, {}
        arrays["tokens"] = self._rng.integers(0, config.vocab_size, [batch, columns])
        arrays["starts"] = np.array([[-1, -1]], np.int32)
        arrays["lengths"], arrays["positions"] = np.full([batch], columns, np.int32), np.full([batch], past, np.int32)
        arrays["inv_freq"] = np.ones([batch, config.kv_channels // 2], np.float32)
        arrays["columns"], arrays["stops"] = np.full([batch, 1], columns - 1, np.int32), np.array([-1], np.int64)
        arrays["next"], arrays["generated"] = np.zeros([batch, 1], np.int64), np.zeros([batch, 4], np.int64)
        arrays["counts"], arrays["finished"] = np.zeros([batch], np.int32), np.ones([batch], np.int32)  # none moves on
        record = np.array([(0.8, 0.9, 50, 1.1, 0, 5)], "<f4, <f4, <i4, <f4, <i4, <u8").view(np.int32)
        record = np.tile(np.pad(record, (0, -(-config.vocab_size // 32))), (batch, 1))
        arrays["sampling"] = record if sampled else np.zeros([1, 1], np.int32)
        state = {name: upload(array, GPU) for name, array in arrays.items()}
        state["features"] = paddle.empty([1, QUERIES, config.hidden_size], self.dtype)
        return state
