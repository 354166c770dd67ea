"""The inference engine: image features, prefill and decode steps on the two exported graphs."""

import time
from pathlib import Path

import numpy as np

from core.config import QUERIES
from core.errors import UserError
from infer.graph import Graph, import_paddle
from infer.image import NORMALISED, resize_table, resizes_columns_first, to_pixels
from infer.inputs import DeviceInputs
from infer.prompt import image_spans
from infer.rope import inverse_frequencies

SLOT_ROUNDING = 64  # cache sizes are rounded up to this, so that runs of similar length share one cache
NO_STOP = -1        # matches no token
POLL_STEPS = 8      # decode steps launched on a GPU between two looks at what has come out


class Engine:
    """An exported model, ready to run.

    Attributes: config (ModelConfig), dtype and impl (str), device ("cpu" or "gpu"), load_seconds (float).
    """

    def __init__(self, exported, device="auto"):
        """Load `exported`/vision and `exported`/language; raises UserError for what cannot be trusted to run."""
        start = time.perf_counter()
        self._paddle = import_paddle()
        has_gpu = self._paddle.is_compiled_with_cuda() and self._paddle.device.cuda.device_count() > 0
        if device == "gpu" and not has_gpu:
            raise UserError("DEVICE=gpu needs an NVIDIA GPU and the paddlepaddle-gpu wheel: run `make doctor`")
        self.device = ("gpu" if has_gpu else "cpu") if device == "auto" else device
        self._paddle.set_device(self.device)
        self._inputs = DeviceInputs(self._paddle, self.device)
        self._vision = Graph(Path(exported) / "vision", self.device)
        self._language = Graph(Path(exported) / "language", self.device)
        vision, language = self._vision.manifest, self._language.manifest
        if (vision.config, vision.dtype, vision.checkpoint) != (language.config, language.dtype, language.checkpoint):
            raise UserError(f"the two graphs in {exported} come from different exports: run `make export` again")
        self.config, self.dtype, self.impl = language.config, language.dtype, language.impl
        if self.device == "gpu":
            from ops import selfcheck  # imports Paddle, which must have its settings first

            if self.impl == "fused":
                selfcheck.check_operators("gpu", self.dtype)
            else:
                selfcheck.check_paddle("gpu")
        self._caches = {}
        self._running = None
        self._no_features = self._features(1)  # bound where no image is used, and not read then
        self.load_seconds = time.perf_counter() - start

    def _features(self, images):
        """Uninitialised memory for image features on the device."""
        return self._paddle.empty([images, QUERIES, self.config.hidden_size], self.dtype)

    def synchronize(self):
        """Wait until the device has done what was launched."""
        if self.device == "gpu":
            self._paddle.device.cuda.synchronize()

    def preprocess(self, images):
        """PIL images as the encoder's input f32 [N, 3, S, S]: numpy, or with fused graphs on a GPU a tensor made there.

        Both hold the same numbers (infer.image.to_pixels). The next call reuses the tensor's memory.
        """
        size, inputs = self.config.visual.image_size, self._inputs
        if self.device == "cpu" or self.impl != "fused":
            return to_pixels(images, size)
        from ops import functional  # imports Paddle, which must have its settings first

        pixels = inputs.memory("pixels", [len(images), 3, size, size], np.float32)
        values = inputs.keep("normalised", NORMALISED)
        for index, image in enumerate(images):
            array = np.asarray(image.convert("RGB"), np.uint8)
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
            pixels = self._inputs.put("pixels", np.ascontiguousarray(pixels, np.float32))
        self._vision.bind(pixels=pixels, image_features=features)
        self._vision.run()
        return features

    def start(self, prompts, features=None, max_new_tokens=32, stop_tokens=(), logit_columns=None):
        """Begin a generation over a batch of token id lists; see Generation. The one before ends: its memory is reused.

        features: what `vision` returned for the prompts' images in order of appearance, row by row; also as numpy.
        logit_columns: per prompt, the columns whose logits the prefill shall return (default: the last one).
        Raises UserError for an empty or too long prompt, tokens outside the vocabulary, and images that do not match.
        """
        self._running = Generation(self, prompts, features, max_new_tokens, stop_tokens, logit_columns)
        return self._running

    def generate(self, prompts, features=None, max_new_tokens=32, stop_tokens=()):
        """Greedy generation of a whole batch: a list of new token ids per prompt, the stop token included."""
        run = self.start(prompts, features, max_new_tokens, stop_tokens)
        run.prefill()
        while not run.finished:
            run.step()
        return run.tokens()

    def replace_caches(self, make):
        """Make the KV caches that are kept anew: `make(shape)` returns a tensor, whatever it holds."""
        for batch, held in self._caches.items():
            self._caches[batch] = [make(cache.shape).astype(cache.dtype) for cache in held]

    def _cache(self, batch, slots):
        """The two KV caches for a batch, kept between generations."""
        config = self.config
        held = self._caches.get(batch)
        if held is None or held[0].shape[3] < slots:
            self._caches.clear()
            shape = [config.num_hidden_layers, batch, config.num_attention_heads, slots, config.kv_channels]
            # The fused operators never read what was not written; zeroing would need a kernel of Paddle's.
            make = self._paddle.empty if self.impl == "fused" else self._paddle.zeros
            self._caches[batch] = held = [make(shape, self.dtype) for _ in range(2)]
        return held


def to_float32(tensor):
    """A tensor on any device, also in bfloat16, as a float32 numpy array. The cast is done on the host."""
    array = tensor.numpy()
    if array.dtype == np.uint16:  # bfloat16: the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


class Generation:
    """One batch being generated: `prefill` once, then `step` until `finished`."""

    def __init__(self, engine, prompts, features, max_new_tokens, stop_tokens, logit_columns):
        _check_prompts(engine.config, prompts, max_new_tokens)
        self._engine, self._graph, self._max_new_tokens = engine, engine._language, max_new_tokens
        self._launched = 0
        batch, columns = len(prompts), max(map(len, prompts))
        self._lengths = np.array([len(p) for p in prompts], np.int32)
        tokens = np.zeros([batch, columns], np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = prompt
        starts = [(row, column) for row, prompt in enumerate(prompts)
                  for column in image_spans(prompt, engine.config.image_start_id)]
        given = 0 if features is None else len(features)
        if len(starts) != given:
            raise UserError(f"the prompts hold {len(starts)} images and features of {given} were given")
        if logit_columns is None:
            logit_columns = [[length - 1] for length in self._lengths]

        slots = -(-(columns + max_new_tokens) // SLOT_ROUNDING) * SLOT_ROUNDING
        put, keep = engine._inputs.put, engine._inputs.keep
        self._state = {
            "positions": put("positions", np.zeros([batch], np.int32)),
            "next_tokens": put("next_tokens", np.zeros([batch, 1], np.int64)),
            "generated": put("generated", np.zeros([batch, max_new_tokens], np.int64)),
            "counts": put("counts", np.zeros([batch], np.int32)),
            "finished": put("finished", np.zeros([batch], np.int32)),
        }
        k_cache, v_cache = engine._cache(batch, slots)
        frequencies = np.stack([inverse_frequencies(engine.config, int(length)) for length in self._lengths])
        self._fixed = {"k_cache": k_cache, "v_cache": v_cache, "inv_freq": keep("inv_freq", frequencies),
                       "stop_tokens": keep("stop_tokens", np.array(list(stop_tokens) or [NO_STOP], np.int64))}
        if isinstance(features, np.ndarray):
            features = put("image_features", features)
        self._prompt = {
            "tokens": put("tokens", tokens),
            "lengths": put("lengths", self._lengths),
            "logit_columns": put("logit_columns", np.array(logit_columns, np.int32)),
            "image_features": features if given else engine._no_features,
            "image_starts": put("image_starts", np.array(starts or [(-1, -1)], np.int32)),
        }
        self._decode = {
            "tokens": self._state["next_tokens"],
            "lengths": keep("decode_lengths", np.ones([batch], np.int32)),
            "logit_columns": keep("decode_logit_columns", np.zeros([batch, 1], np.int32)),
            "image_features": engine._no_features,
            "image_starts": keep("decode_image_starts", np.array([(-1, -1)], np.int32)),
        }

    def prefill(self):
        """Run the prompts and choose each row's first token."""
        self._check_running()
        self._graph.bind(**self._fixed, **self._state, **self._prompt)
        self._graph.run()
        self._graph.bind(**self._decode)
        self._launched = 1

    def step(self):
        """Run one decode step: one more token for every row that is not finished."""
        self._check_running()
        self._graph.run()
        self._launched += 1

    @property
    def finished(self):
        """True when every row met a stop token or the batch has its `max_new_tokens`.

        On a GPU steps are launched ahead and the rows are looked at every POLL_STEPS; steps of finished rows change
        nothing.
        """
        if self._launched >= self._max_new_tokens:
            return True
        if self._engine.device == "gpu" and self._launched % POLL_STEPS:
            return False
        return bool(self._state["finished"].numpy().all())

    def tokens(self):
        """New token ids per row so far, the stop token included."""
        self._check_running()
        counts, generated = self._state["counts"].numpy(), self._state["generated"].numpy()
        return [row[:count].tolist() for row, count in zip(generated, counts)]

    def logits(self):
        """Logits of the last call: f32 [B, P, V]."""
        self._check_running()
        return self._graph.output()


    def _check_running(self):
        if self._engine._running is not self:
            raise RuntimeError("another generation was started on this engine: it has taken over this one's memory")


def _check_prompts(config, prompts, max_new_tokens):
    if not prompts or not all(prompts):
        raise UserError("a prompt is empty")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens={max_new_tokens}: at least one token must be generated")
    longest = max(map(len, prompts))
    if longest + max_new_tokens > config.max_position_embeddings:
        raise UserError(f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the model's "
                        f"{config.max_position_embeddings} positions: shorten the prompt or NEW_TOKENS=")
    outside = [t for prompt in prompts for t in prompt if not 0 <= t < config.vocab_size]
    if outside:
        raise UserError(f"token {outside[0]} lies outside the vocabulary of {config.vocab_size}")
