"""The inference engine: image features, prefill and decode steps on the two exported graphs."""

import time
from pathlib import Path

import numpy as np

from core.config import QUERIES
from infer.formats import AUTO
from infer.generation import Generation
from infer.graph import Graph, Manifest, check_pair
from infer.image import NORMALISED, resize_table, resizes_columns_first, to_pixels, to_rgb
from infer.inputs import DeviceInputs
from ops import cuda_libraries, formats, library
from ops.framework import devices, import_paddle
from ops.weights import decode_bytes, weights_bytes


class Engine:
    """An exported model, ready to run.

    Attributes: config (ModelConfig), dtype and impl (str), placement (Placement), load_seconds (float), weights (str:
    the formats of the language model's matrices, see infer.formats), weights_bytes and step_bytes (of all weights,
    and of those that a decode step reads).
    What a Generation works with: language_graph (Graph), inputs (DeviceInputs), make_cache(shape),
    caches(batch, slots), no_features (a tensor that stands where no image is used), running (the Generation whose
    memory it is).
    """

    def __init__(self, exported, placement, weights=AUTO):
        """Load `exported`/vision and `exported`/language; raises UserError for what cannot be trusted to run.

        weights: the formats to keep the language model's matrices in, see infer.formats.
        """
        start = time.perf_counter()
        self._paddle, self.placement = import_paddle(), placement
        if placement.on_gpu:
            cuda_libraries.check()
        devices.use(placement)
        self.inputs = DeviceInputs(placement)
        if placement.on_gpu:
            from ops import product_timing, selfcheck  # import Paddle, which must have its settings first

            if Manifest(Path(exported) / "language").impl == "native":
                selfcheck.check_paddle(placement)
        self.vision_graph = Graph(Path(exported) / "vision", placement)
        self.language_graph = Graph(Path(exported) / "language", placement, weights)
        vision, language = self.vision_graph.manifest, self.language_graph.manifest
        check_pair(vision, language, exported, "export")
        self.config, self.dtype, self.impl = language.config, language.dtype, language.impl
        self.weights = self.language_graph.weights
        self.weights_bytes = weights_bytes(self.config, self.dtype, self.weights)
        self.step_bytes = decode_bytes(self.config, self.dtype, self.weights)
        if placement.on_gpu and self.impl == "fused":
            rounded = [format.name for format in formats.quantised() if format.name in self.weights.split("+")]
            selfcheck.check_operators(placement, self.dtype, rounded)
            kept = self.vision_graph.operator_weights() | self.language_graph.operator_weights()
            product_timing.time_products(self.config, kept, self.dtype, placement, self.weights)
        self._caches = {}
        self.running = None
        # The fused operators never read what was not written; zeroing would need a kernel of Paddle's.
        make = self._paddle.empty if self.impl == "fused" else self._paddle.zeros
        self.make_cache = lambda shape: make(shape, self.dtype)
        self.no_features = self._features(1)  # bound where no image is used, and not read then
        self.load_seconds = time.perf_counter() - start

    def _features(self, images):
        """Uninitialised memory for image features on the device."""
        return self._paddle.empty([images, QUERIES, self.config.hidden_size], self.dtype)

    def synchronize(self):
        """Wait until the device has done what was launched."""
        if self.placement.on_gpu:
            devices.synchronize()
            self.check_waits()

    def check_waits(self):
        """Raise UserError if a kernel that has ended gave up a wait; after the device was waited for."""
        if self.placement.on_gpu and self.impl == "fused":
            library.check_waits()

    def read(self, *names):
        """What was packed as inputs and state, by name, as the device has it now, a list of numpy arrays."""
        values = self.inputs.read(*names)
        self.check_waits()
        return values

    def preprocess(self, images):
        """PIL images as the encoder's input f32 [N, 3, S, S]: numpy, or with fused graphs on a GPU a tensor made there.

        Both hold the same numbers (infer.image.to_pixels). The next call reuses the tensor's memory.
        """
        size, inputs = self.config.visual.image_size, self.inputs
        if self.impl != "fused" or not self.placement.on_gpu:
            return to_pixels(images, size)
        from ops import functional  # imports Paddle

        pixels = inputs.memory("pixels", [len(images), 3, size, size], np.float32)
        values = inputs.keep("normalised", NORMALISED)
        for index, image in enumerate(images):
            array = np.asarray(to_rgb(image), np.uint8)
            height, width, _ = array.shape
            functional.resize(inputs.put("image", array), inputs.keep("horizontal", resize_table(width, size)),
                              inputs.keep("vertical", resize_table(height, size)), values, pixels, index=index,
                              columns_first=resizes_columns_first(width, height, size))
        return pixels

    def vision(self, pixels):
        """Image features of normalised pixels, f32 [N, 3, S, S]: what `preprocess` returned, or numpy.

        Returns a Paddle tensor [N, 256, H] of the weights' type on the device; it may still be being computed there.
        """
        features = self._features(len(pixels))
        if isinstance(pixels, np.ndarray):
            pixels = self.inputs.put("pixels", np.ascontiguousarray(pixels, np.float32))
        self.vision_graph.bind(pixels=pixels, image_features=features)
        self.vision_graph.run()
        return features

    def start(self, prompts, features=None, max_new_tokens=32, stop_tokens=(), logit_columns=None, sampling=None,
              cache=None):
        """Begin a generation over a batch of token id lists; see Generation. The one before ends: its memory is reused.

        This is work of the host alone, which does not wait for the device: it can be done while `vision` still runs
        there. `prefill` sends what is made here.

        features: what `vision` returned for the prompts' images in order of appearance, row by row; also as numpy, or a
        list of such parts of one image each.
        logit_columns: per prompt, the columns whose logits the prefill shall return (default: the last one).
        sampling: a Sampling for each prompt (default: greedy). Native graphs only take the greedy one.
        cache: for a single prompt, the KvCache of the turns before: what it holds of the prompt is not computed again,
        and logit_columns then count from there. Images are told apart by the identity of their features' list items.
        Raises UserError for an empty or too long prompt, tokens outside the vocabulary, and images that do not match.
        """
        self.running = Generation(self, prompts, features, max_new_tokens, stop_tokens, logit_columns, sampling, cache)
        return self.running

    def generate(self, prompts, features=None, max_new_tokens=32, stop_tokens=(), sampling=None):
        """Generation of a whole batch: a list of new token ids per prompt, the stop token included."""
        run = self.start(prompts, features, max_new_tokens, stop_tokens, sampling=sampling)
        run.prefill()
        while not run.finished:
            run.step()
        return run.tokens()

    def replace_caches(self, make):
        """Make the KV caches that are kept anew: `make(shape)` returns a tensor, whatever it holds."""
        for batch, tensors in self._caches.items():
            self._caches[batch] = [make(cache.shape).astype(cache.dtype) for cache in tensors]

    def caches(self, batch, slots):
        """The two KV caches for a batch, kept between generations."""
        config = self.config
        tensors = self._caches.get(batch)
        if tensors is None or tensors[0].shape[3] < slots:
            self._caches.clear()
            shape = [config.num_hidden_layers, batch, config.num_attention_heads, slots, config.kv_channels]
            self._caches[batch] = tensors = [self.make_cache(shape) for _ in range(2)]
        return tensors


def to_float32(tensor):
    """A tensor on any device, also in bfloat16, as a float32 numpy array. The cast is done on the host."""
    array = tensor.numpy()
    (format,) = (format for format in formats.plain().values() if format.storage == array.dtype)
    return format.unpack(array)
