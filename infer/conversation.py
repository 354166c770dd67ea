"""A conversation in the chat format: its history, its pictures, and the KV cache that its turns share."""

import re

from infer.cache import KvCache
from infer.prompt import check_prompt, from_list_format, image_spans, images_of, make_context
from infer.sampling_parameters import Sampling

MAX_NEW_TOKENS = 512  # of an answer; the published chat default


class Conversation:
    """Turns of a user and the model; `QwenVL.chat` begins one.

    Only what is new is prefilled in a turn: the keys and values of the turns before stay on the device. All of it is
    prefilled again where that would be wrong: when old turns fall out of the window, or when the length reaches a size
    at which dynamic NTK changes the rotary base.

    Attributes: history ((query, response) pairs of texts), files (the picture files so far, in order).
    """

    def __init__(self, model, system, max_window, label):
        self._model, self._system, self._max_window, self._label = model, system, max_window, label
        self._cache = KvCache()
        self.reset()

    def reset(self) -> None:
        """Forget all turns and pictures."""
        self.history, self.files, self._features = [], [], []
        self._cache.clear()

    def ask(self, text: str, images=(), *, max_new_tokens: int | None = None, temperature: float = 0.0,
            top_p: float = 1.0, top_k: int = 0, repetition_penalty: float = 1.0, min_new_tokens: int = 0,
            seed: int = 0, stop=(), stream=None):
        """Take one turn and return its infer.model.Answer.

        Arguments as of QwenVL.generate, except: images are numbered on from those of the turns before, the end of a
        turn stops the answer as well, and max_new_tokens is by default 512, or what the model still has room for.
        A turn that fails leaves the conversation as it was; one that is interrupted keeps what was said until then.
        """
        tokenizer, config = self._model.tokenizer, self._model.config
        files, first = images_of(text, images), len(self.files) + 1
        named_images = [{"image": f"{first + i}.jpg"} for i in range(len(files))] if images else []
        query = from_list_format([*named_images, {"text": text}], self._label, first)
        ids = self.context(query)
        # Pictures of the turns before that fit into the window.
        kept_pictures = min(max(len(image_spans(ids, config.image_start_id)) - len(files), 0), len(self.files))
        room = max(1, config.max_position_embeddings - len(ids))
        settings = self._model.settings(
            min(MAX_NEW_TOKENS, room) if max_new_tokens is None else max_new_tokens,
            Sampling(temperature, top_p, top_k, repetition_penalty, min_new_tokens, seed), stop,
            (tokenizer.im_end, tokenizer.im_start, tokenizer.end_of_text))
        check_prompt(ids, kept_pictures + len(files), settings.max_new_tokens, config)
        pictures = self._model.open_pictures(files, images)

        clock = self._model.clock()
        features = self._model.encode(pictures, clock)
        shown_features = [*self._features[len(self._features) - kept_pictures:], *features]
        pieces = []

        def listen(piece):
            pieces.append(piece)
            if stream is not None:
                stream(piece)

        def remember():
            # An image tag of the model's own has no picture, and must not be taken for one in the next turn.
            self.history.append((query, re.sub(r"<(?=(/?img|imgpad)>)", "< ", "".join(pieces)).strip()))
            self.files += files
            self._features += features

        try:
            answer = self._model.respond(ids, shown_features, settings, listen, clock, self._cache)
        except KeyboardInterrupt:
            if pieces:
                remember()
            raise
        remember()
        return answer

    def context(self, query):
        """Token ids of the prompt that a query would be answered with."""
        return make_context(self._model.tokenizer, query, self.history, self._system, self._max_window)[1]
