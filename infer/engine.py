"""The inference engine: image features, prefill and decode steps on the two exported graphs."""

import time
from pathlib import Path

import numpy as np

from core.config import QUERIES
from core.errors import UserError
from infer.graph import Graph, Manifest
from infer.image import NORMALISED, resize_table, resizes_columns_first, to_pixels, to_rgb
from infer.inputs import DeviceInputs
from infer.prompt import image_spans
from infer.rope import inverse_frequencies
from infer.sampling import Sampling, records
from ops import cuda_libraries, formats
from ops.framework import devices, import_paddle
from ops.weights import decode_bytes, weights_bytes

SLOT_ROUNDING = 64  # cache sizes are rounded up to this, so that runs of similar length share one cache
NO_STOP = -1        # matches no token
NO_IMAGE = [(-1, -1)]   # image_starts where no image is used
GREEDY = Sampling()
POLL_STEPS = 8      # decode steps launched on a GPU between two looks at what has come out


class Engine:
    """An exported model, ready to run.

    Attributes: config (ModelConfig), dtype and impl (str), placement (Placement), load_seconds (float), weights (str:
    the format of the language model's matrices, see docs/inference.md), weights_bytes and step_bytes (of all weights,
    and of those that a decode step reads).
    """

    def __init__(self, exported, placement, pack=True):
        """Load `exported`/vision and `exported`/language; raises UserError for what cannot be trusted to run.

        pack: False keeps weights as they were exported that would else be packed without loss.
        """
        start = time.perf_counter()
        self._paddle, self.placement = import_paddle(), placement
        if placement.on_gpu:
            cuda_libraries.check()
        devices.use(placement)
        self._inputs = DeviceInputs(placement)
        if placement.on_gpu:
            from ops import selfcheck, tuning  # import Paddle, which must have its settings first

            if Manifest(Path(exported) / "language").impl == "native":
                selfcheck.check_paddle(placement)
        self._vision = Graph(Path(exported) / "vision", placement)
        self._language = Graph(Path(exported) / "language", placement, pack)
        vision, language = self._vision.manifest, self._language.manifest
        if (vision.config, vision.dtype, vision.checkpoint) != (language.config, language.dtype, language.checkpoint):
            raise UserError(f"the two graphs in {exported} come from different exports: run `make export` again")
        self.config, self.dtype, self.impl = language.config, language.dtype, language.impl
        self.weights = self._language.weights
        self.weights_bytes = weights_bytes(self.config, self.weights)
        self.step_bytes = decode_bytes(self.config, self.weights)
        if placement.on_gpu and self.impl == "fused":
            selfcheck.check_operators(placement, self.dtype)
            tuning.tune(self.config, self._vision.operator_weights() | self._language.operator_weights(), self.dtype,
                        placement, self.weights)
        self._caches = {}
        self._running = None
        # The fused operators never read what was not written; zeroing would need a kernel of Paddle's.
        make = self._paddle.empty if self.impl == "fused" else self._paddle.zeros
        self._make_cache = lambda shape: make(shape, self.dtype)
        self._no_features = self._features(1)  # bound where no image is used, and not read then
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
            from ops import library  # imports Paddle

            library.check_waits()

    def read(self, *names):
        """What was packed as inputs and state, by name, as the device has it now, a list of numpy arrays."""
        values = self._inputs.read(*names)
        self.check_waits()
        return values

    def preprocess(self, images):
        """PIL images as the encoder's input f32 [N, 3, S, S]: numpy, or with fused graphs on a GPU a tensor made there.

        Both hold the same numbers (infer.image.to_pixels). The next call reuses the tensor's memory.
        """
        size, inputs = self.config.visual.image_size, self._inputs
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
            pixels = self._inputs.put("pixels", np.ascontiguousarray(pixels, np.float32))
        self._vision.bind(pixels=pixels, image_features=features)
        self._vision.run()
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
        self._running = Generation(self, prompts, features, max_new_tokens, stop_tokens, logit_columns, sampling, cache)
        return self._running

    def generate(self, prompts, features=None, max_new_tokens=32, stop_tokens=(), sampling=None):
        """Generation of a whole batch: a list of new token ids per prompt, the stop token included."""
        run = self.start(prompts, features, max_new_tokens, stop_tokens, sampling=sampling)
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
            self._caches[batch] = held = [self._make_cache(shape) for _ in range(2)]
        return held


def to_float32(tensor):
    """A tensor on any device, also in bfloat16, as a float32 numpy array. The cast is done on the host."""
    array = tensor.numpy()
    (kept,) = (kept for kept in formats.plain().values() if kept.storage == array.dtype)
    return kept.unpack(array)


class Generation:
    """One batch being generated: `prefill` once, then `step` until `finished`; or `stream` for a single prompt.

    Another order, and whatever comes after the engine started another generation, is a RuntimeError.
    Attributes: reused (tokens of the prompt that the cache held already).
    """

    def __init__(self, engine, prompts, features, max_new_tokens, stop_tokens, logit_columns, sampling, cache):
        config = engine.config
        try:
            prompts = [np.asarray(prompt, np.int64) for prompt in prompts]
        except OverflowError:
            raise UserError(f"a token lies outside the vocabulary of {config.vocab_size}") from None
        _check_prompts(config, prompts, max_new_tokens)
        self._engine, self._graph, self._max_new_tokens = engine, engine._language, max_new_tokens
        self._launched = 0
        features = [] if features is None else features
        starts = [(row, column) for row, prompt in enumerate(prompts)
                  for column in image_spans(prompt, config.image_start_id)]
        images = len(features) if isinstance(features, list) else features.shape[0]
        if len(starts) != images:
            raise UserError(f"the prompts hold {len(starts)} images and features of {images} were given")
        frequencies = np.stack([inverse_frequencies(config, len(prompt)) for prompt in prompts])

        batch, whole, self.reused, self._cache = len(prompts), prompts, 0, cache
        if cache is not None:
            (prompt,) = (array.tolist() for array in prompts)
            cache.reserve(len(prompt) + max_new_tokens, config, engine._make_cache)
            self.reused = cache.reusable(prompt, features, frequencies, config.image_start_id)
            held = sum(column < self.reused for _, column in starts)
            # What comes after the reused part is overwritten, and known again once the prefill has run.
            cache.ids, cache.features, cache.frequencies = prompt[:self.reused], list(features[:held]), frequencies
            self._kept = prompt, list(features)
            prompts, features = [prompts[0][self.reused:]], list(features[held:])
            starts = [(0, column - self.reused) for _, column in starts[held:]]
        columns = max(map(len, prompts))
        lengths = np.array([len(p) for p in prompts], np.int32)
        tokens = np.zeros([batch, columns], np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = prompt
        if logit_columns is None:
            logit_columns = [[length - 1] for length in lengths]

        slots = -(-(columns + max_new_tokens) // SLOT_ROUNDING) * SLOT_ROUNDING
        k_cache, v_cache = engine._cache(batch, slots) if cache is None else cache.tensors
        # What depends on the prompt's length comes last: the memory of the rest stays, whatever the prompt.
        packed = engine._inputs.pack(
            positions=np.full([batch], self.reused, np.int32), next_tokens=np.zeros([batch, 1], np.int64),
            decode_lengths=np.ones([batch], np.int32), decode_logit_columns=np.zeros([batch, 1], np.int32),
            decode_image_starts=np.array(NO_IMAGE, np.int32), inv_freq=frequencies,
            stop_tokens=np.array(list(stop_tokens) or [NO_STOP], np.int64), **_sampling_input(engine, sampling, whole),
            counts=np.zeros([batch], np.int32), finished=np.zeros([batch], np.int32),
            generated=np.zeros([batch, max_new_tokens], np.int64),
            lengths=lengths, logit_columns=np.array(logit_columns, np.int32),
            image_starts=np.array(starts or NO_IMAGE, np.int32), tokens=tokens)
        self._decode = {"tokens": packed["next_tokens"], "lengths": packed["decode_lengths"],
                        "logit_columns": packed["decode_logit_columns"], "image_features": engine._no_features,
                        "image_starts": packed["decode_image_starts"]}
        bound = {name: tensor for name, tensor in packed.items() if name in self._graph.inputs}
        if not starts:
            features = engine._no_features
        elif isinstance(features, list) and len(features) == 1:
            (features,) = features
        self._unsent = features if isinstance(features, (list, np.ndarray)) else None
        if self._unsent is None:
            bound["image_features"] = features
        self._graph.bind(k_cache=k_cache, v_cache=v_cache, **bound)

    def prefill(self):
        """Send the prompts, run them and choose each row's first token."""
        self._check_running(prefilled=False)
        self._engine._inputs.send()
        if self._unsent is not None:
            self._graph.bind(image_features=_one_tensor(self._engine, self._unsent))
        self._graph.run()
        self._graph.bind(**self._decode)
        self._launched = 1
        if self._cache is not None:
            self._cache.ids, self._cache.features = self._kept

    def step(self):
        """Run one decode step: one more token for every row that is not finished; RuntimeError after the last one.

        The caches have a slot for each of `max_new_tokens`. Positions live on the device, which a GPU's kernels do not
        stop for: so steps are counted here.
        """
        self._check_running()
        if self._launched >= self._max_new_tokens:
            raise RuntimeError(f"the generation has its {self._max_new_tokens} tokens and no cache slot for more: "
                               "start one with a larger max_new_tokens")
        self._graph.run()
        self._launched += 1

    @property
    def finished(self):
        """True when every row met a stop token or the batch has its `max_new_tokens`.

        On a GPU steps are launched ahead and the rows are looked at every POLL_STEPS; steps of finished rows change
        nothing.
        """
        self._check_running()
        if self._launched >= self._max_new_tokens:
            return True
        return self._look and bool(self._engine.read("finished")[0].all())

    @property
    def _look(self):
        """Whether to wait for the device now and see what has come out."""
        return not self._engine.placement.on_gpu or self._launched == 1 or self._launched % POLL_STEPS == 0

    def stream(self):
        """Generate for a single prompt and yield its new token ids as they come, in lists: one by one on the CPU, the
        first one and then POLL_STEPS at a time on a GPU."""
        self.prefill()
        given, ended = 0, False
        while not ended:
            ended = self.finished
            if ended or self._look:
                (tokens,) = self.tokens()
                if len(tokens) > given:
                    yield tokens[given:]
                given = len(tokens)
            if not ended:
                self.step()

    def tokens(self):
        """New token ids per row so far, the stop token included."""
        self._check_running()
        counts, generated = self._engine.read("counts", "generated")
        rows = [row[:count].tolist() for row, count in zip(generated, counts)]
        if self._cache is not None:
            self._cache.ids = [*self._kept[0], *rows[0][:-1]]  # the last token chosen was not fed yet
        return rows

    def logits(self):
        """Logits of the last call: f32 [B, P, V]."""
        self._check_running()
        logits = self._graph.output()
        self._engine.check_waits()
        return logits

    def _check_running(self, prefilled=True):
        if self._engine._running is not self:
            raise RuntimeError("another generation was started on this engine: it has taken over this one's memory")
        if bool(self._launched) is not prefilled:  # the memory holds nothing of this one before, and no prompt after
            raise RuntimeError("a generation begins with `prefill`, and has one only")


def _one_tensor(engine, features):
    """Image features, numpy or a list of parts, as one tensor on the device; several parts pass through the host."""
    if isinstance(features, list):
        features = np.concatenate([part if isinstance(part, np.ndarray) else part.numpy() for part in features])
    return engine._inputs.put("image_features", features)


def _sampling_input(engine, sampling, prompts):
    """The graph's `sampling` input by name, as numpy; empty for a graph without one."""
    samplings = [GREEDY] * len(prompts) if sampling is None else list(sampling)
    greedy = all(s.greedy for s in samplings)
    if "sampling" not in engine._language.inputs:
        if not greedy:
            raise UserError("graphs of IMPL=native take the likeliest token: export with IMPL=fused to sample")
        return {}
    if greedy:
        return {"sampling": np.zeros([1, 1], np.int32)}
    return {"sampling": records(samplings, prompts, engine.config.vocab_size, engine.config.image_start_id)}


def _check_prompts(config, prompts, max_new_tokens):
    if not prompts or not all(map(len, prompts)):
        raise UserError("a prompt is empty")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens={max_new_tokens}: at least one token must be generated")
    longest = max(map(len, prompts))
    if longest + max_new_tokens > config.max_position_embeddings:
        raise UserError(f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the model's "
                        f"{config.max_position_embeddings} positions: shorten the prompt or NEW_TOKENS=")
    for prompt in prompts:
        if prompt.min() < 0 or prompt.max() >= config.vocab_size:
            outside = next(token for token in prompt.tolist() if not 0 <= token < config.vocab_size)
            raise UserError(f"token {outside} lies outside the vocabulary of {config.vocab_size}")
