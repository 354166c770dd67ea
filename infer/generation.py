"""One batch of prompts through the language graph: prefill, decode steps, and what has come out so far."""

import numpy as np

from core.errors import UserError
from infer.prompt import image_spans
from infer.rope import inverse_frequencies
from infer.sampling_parameters import Sampling, records, refuse_drawing

SLOT_ROUNDING = 64  # cache sizes are rounded up to this, so that runs of similar length share one cache
NO_STOP = -1        # matches no token
NO_IMAGE = [(-1, -1)]   # image_starts where no image is used
GREEDY = Sampling()
POLL_STEPS = 8      # decode steps launched on a GPU between two looks at what has come out


class Generation:
    """One batch being generated: `prefill` once, then `step` until `finished`; or `stream` for a single prompt.

    Another order, and whatever comes after the engine started another generation, is a RuntimeError.
    Attributes: reused (tokens of the prompt that the cache held already).
    """

    def __init__(self, engine, prompts, features, max_new_tokens, stop_tokens, logit_columns, sampling, cache):
        self._engine, self._graph, self._max_new_tokens = engine, engine.language_graph, max_new_tokens
        self._launched, self.reused, self._cache = 0, 0, cache
        prompts = _checked_prompts(engine.config, prompts, max_new_tokens)
        features = [] if features is None else features
        image_starts = _image_starts(engine.config, prompts, features)
        frequencies = np.stack([inverse_frequencies(engine.config, len(prompt)) for prompt in prompts])
        sampling = _sampling_input(engine, sampling, prompts)
        if cache is not None:
            prompts, features, image_starts = self._leave_out_reused(prompts, features, image_starts, frequencies)
        packed = self._pack(prompts, image_starts, frequencies, stop_tokens, logit_columns, sampling)
        self._bind(packed, features if image_starts else engine.no_features)

    def _leave_out_reused(self, prompts, features, image_starts, frequencies):
        """(prompts, features, image_starts) without what the cache holds already of the one prompt; sets `reused`."""
        config, cache = self._engine.config, self._cache
        (prompt,) = (array.tolist() for array in prompts)
        cache.reserve(len(prompt) + self._max_new_tokens, config, self._engine.make_cache)
        self.reused = cache.reusable(prompt, features, frequencies, config.image_start_id)
        images = sum(column < self.reused for _, column in image_starts)
        # What comes after the reused part is overwritten, and known again once the prefill has run.
        cache.ids, cache.features, cache.frequencies = prompt[:self.reused], list(features[:images]), frequencies
        self._in_cache = prompt, list(features)
        return ([prompts[0][self.reused:]], list(features[images:]),
                [(0, column - self.reused) for _, column in image_starts[images:]])

    def _pack(self, prompts, image_starts, frequencies, stop_tokens, logit_columns, sampling):
        """The graph's small inputs and state by name, as tensors whose content the prefill sends to the device."""
        batch = len(prompts)
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        tokens = np.zeros([batch, max(lengths)], np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = prompt
        if logit_columns is None:
            logit_columns = [[length - 1] for length in lengths]
        # What depends on the prompt's length comes last: the memory of the rest stays, whatever the prompt.
        return self._engine.inputs.pack(
            positions=np.full([batch], self.reused, np.int32), next_tokens=np.zeros([batch, 1], np.int64),
            decode_lengths=np.ones([batch], np.int32), decode_logit_columns=np.zeros([batch, 1], np.int32),
            decode_image_starts=np.array(NO_IMAGE, np.int32), inv_freq=frequencies,
            stop_tokens=np.array(list(stop_tokens) or [NO_STOP], np.int64), **sampling,
            counts=np.zeros([batch], np.int32), finished=np.zeros([batch], np.int32),
            generated=np.zeros([batch, self._max_new_tokens], np.int64),
            lengths=lengths, logit_columns=np.array(logit_columns, np.int32),
            image_starts=np.array(image_starts or NO_IMAGE, np.int32), tokens=tokens)

    def _bind(self, packed, features):
        """Bind what the prefill reads, and keep what takes its place in decode steps; features on the host wait."""
        batch, columns = packed["tokens"].shape
        slots = -(-(columns + self._max_new_tokens) // SLOT_ROUNDING) * SLOT_ROUNDING
        k_cache, v_cache = self._engine.caches(batch, slots) if self._cache is None else self._cache.tensors
        self._decode_inputs = {"tokens": packed["next_tokens"], "lengths": packed["decode_lengths"],
                               "logit_columns": packed["decode_logit_columns"],
                               "image_features": self._engine.no_features,
                               "image_starts": packed["decode_image_starts"]}
        inputs = {name: tensor for name, tensor in packed.items() if name in self._graph.inputs}
        if isinstance(features, list) and len(features) == 1:
            (features,) = features
        self._unsent = features if isinstance(features, (list, np.ndarray)) else None
        if self._unsent is None:
            inputs["image_features"] = features
        self._graph.bind(k_cache=k_cache, v_cache=v_cache, **inputs)

    def prefill(self):
        """Send the prompts, run them and choose each row's first token."""
        self._check_running(prefilled=False)
        self._engine.inputs.send()
        if self._unsent is not None:
            self._graph.bind(image_features=_one_tensor(self._engine, self._unsent))
        self._graph.run()
        self._graph.bind(**self._decode_inputs)
        self._launched = 1
        if self._cache is not None:
            self._cache.ids, self._cache.features = self._in_cache

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
            self._cache.ids = [*self._in_cache[0], *rows[0][:-1]]  # the last token chosen was not fed yet
        return rows

    def logits(self):
        """Logits of the last call: f32 [B, P, V]."""
        self._check_running()
        logits = self._graph.output()
        self._engine.check_waits()
        return logits

    def _check_running(self, prefilled=True):
        if self._engine.running is not self:
            raise RuntimeError("another generation was started on this engine: it has taken over this one's memory")
        if bool(self._launched) is not prefilled:  # the memory holds nothing of this one before, and no prompt after
            raise RuntimeError("a generation begins with `prefill`, and has one only")


def _one_tensor(engine, features):
    """Image features, numpy or a list of parts, as one tensor on the device; several parts pass through the host."""
    if isinstance(features, list):
        features = np.concatenate([part if isinstance(part, np.ndarray) else part.numpy() for part in features])
    return engine.inputs.put("image_features", features)


def _sampling_input(engine, sampling, prompts):
    """The graph's `sampling` input by name, as numpy; empty for a graph without one."""
    samplings = [GREEDY] * len(prompts) if sampling is None else list(sampling)
    if "sampling" not in engine.language_graph.inputs:
        refuse_drawing(samplings)
        return {}
    if all(each.greedy for each in samplings):
        return {"sampling": np.zeros([1, 1], np.int32)}
    return {"sampling": records(samplings, prompts, engine.config.vocab_size, engine.config.image_start_id)}


def _checked_prompts(config, prompts, max_new_tokens):
    """The prompts as arrays; raises UserError for what the model does not take."""
    try:
        prompts = [np.asarray(prompt, np.int64) for prompt in prompts]
    except OverflowError:
        raise UserError(f"a token lies outside the vocabulary of {config.vocab_size}") from None
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
    return prompts


def _image_starts(config, prompts, features):
    """(row, column) of every image in the prompts; raises UserError unless `features` has as many."""
    starts = [(row, column) for row, prompt in enumerate(prompts)
              for column in image_spans(prompt, config.image_start_id)]
    images = len(features) if isinstance(features, list) else features.shape[0]
    if len(starts) != images:
        raise UserError(f"the prompts hold {len(starts)} images and features of {images} were given")
    return starts
