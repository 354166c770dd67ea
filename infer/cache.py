"""The KV cache of one conversation: keys and values stay on the device, so that a turn prefills only what is new."""

import math

import numpy as np

from core.config import QUERIES


class KvCache:
    """Keys and values of one row, and what they belong to. Empty at first; `Engine.start` fills and grows it.

    Attributes: ids (token ids of the slots filled, in order), features (the image features of their images, in order,
    known by identity), frequencies (rotary frequencies that the keys were rotated with, None when empty), tensors
    (k and v, [L, 1, heads, slots, D], None at first).
    """

    def __init__(self):
        self.tensors = None
        self.clear()

    def clear(self):
        """Forget what the slots hold; their memory stays."""
        self.ids, self.features, self.frequencies = [], [], None

    @property
    def slots(self):
        """Tokens that fit."""
        return 0 if self.tensors is None else self.tensors[0].shape[3]

    def reserve(self, tokens, config, make):
        """Have at least `tokens` slots; growing empties the cache. `make(shape)` returns a tensor.

        Sizes are seq_length times a power of two: beyond each of these dynamic NTK changes the rotary base, and all
        keys are made anew anyway.
        """
        if tokens <= self.slots:
            return
        self.clear()
        self.tensors = None  # freed before the next one is made
        slots = config.seq_length * 2 ** max(0, math.ceil(math.log2(tokens / config.seq_length)))
        slots = max(tokens, min(slots, config.max_position_embeddings))
        shape = [config.num_hidden_layers, 1, config.num_attention_heads, slots, config.kv_channels]
        self.tensors = [make(shape), make(shape)]

    def reusable(self, ids, features, frequencies, image_start_id):
        """How many first tokens of a prompt the slots hold already, at most all but one; never a part of an image.

        features: of the prompt's images in order, compared by identity.
        """
        if self.frequencies is None or not np.array_equal(frequencies, self.frequencies):
            return 0
        longest = min(len(ids) - 1, len(self.ids))
        same = next((i for i in range(longest) if ids[i] != self.ids[i]), longest)
        image = 0
        for start in range(same):
            if ids[start] == image_start_id:
                whole = start + QUERIES + 1 < same  # the closing tag is held, too
                if not (whole and image < len(self.features) and features[image] is self.features[image]):
                    return start
                image += 1
        return same
