"""The Python interface to an exported model: prompts and pictures in, text out, at once or piece by piece."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError
from core.ranks import VOCABULARY
from infer.conversation import Conversation
from infer.engine import Engine
from infer.formats import AUTO, check
from infer.graph import Manifest
from infer.image import load_image, resolved_folders
from infer.prompt import CHAT_LABEL, MAX_WINDOW, SYSTEM, check_prompt, images_of, with_image
from infer.sampling_parameters import Sampling, refuse_drawing
from infer.streaming import TextStream
from infer.tokenizer import Tokenizer
from ops.framework import devices

Stream = Callable[[str], object]
Files = Sequence[str | os.PathLike]


@dataclass(frozen=True)
class Settings:
    """What one answer is made with: how its tokens are chosen, and where it ends.

    Attributes: max_new_tokens (int), sampling (Sampling), stop (ids of the tokens that end the answer).
    """

    max_new_tokens: int
    sampling: Sampling
    stop: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """An answer and what it took.

    Attributes: text (without control and stop tokens; <ref>, <box> and <quad> tags stay), tokens (its ids, the stop
    token included), finish ("stop": a stop token came; "length": max_new_tokens did), prompt_tokens and reused_tokens
    (tokens of the prompt, and how many of them the KV cache held already), times (milliseconds: "preprocess" and
    "vision" where there are new pictures, "TTFT" from the beginning to the first token, "TPOT" for each further one).
    """

    text: str
    tokens: list[int]
    finish: str
    prompt_tokens: int
    reused_tokens: int
    times: dict[str, float]


@dataclass
class Clock:
    """Times of one answer by stage, in milliseconds."""

    engine: Engine
    start: float = field(default_factory=time.perf_counter)
    times: dict[str, float] = field(default_factory=dict)

    def note(self, stage, since, divisor=1):
        """Add to a stage the time from the moment `since` until the device is done; returns the moment now."""
        self.engine.synchronize()
        now = time.perf_counter()
        self.times[stage] = self.times.get(stage, 0.0) + (now - since) * 1e3 / divisor
        return now


class QwenVL:
    """An exported model (`make export`) that answers prompts.

    Attributes: config (core.config.ModelConfig), tokenizer (infer.tokenizer.Tokenizer).
    """

    def __init__(self, exported: str | os.PathLike, device: str = "auto", image_folders: Files | None = (),
                 weights: str = AUTO) -> None:
        """Read the manifest and the vocabulary of the folder `exported`; `load` or the first answer loads the graphs.

        device: "auto" (a GPU where wheel and machine have one), "cpu" or "gpu". image_folders: where the files must lie
        that a text names as <img>path</img>, so that who writes prompts cannot open every file of this machine; by
        default there are none, None: anywhere. weights: the formats to keep the language model's matrices in
        (docs/inference.md); "auto" loses nothing. Raises core.errors.UserError, here and below, for everything that its
        caller can mend.
        """
        language = Path(exported) / "language"
        self._image_folders = None if image_folders is None else resolved_folders(image_folders)
        self._exported, self._device, self._weights, self._engine = Path(exported), device, check(weights), None
        manifest = Manifest(language)
        self.config, self._impl = manifest.config, manifest.impl
        self.tokenizer = Tokenizer(language / VOCABULARY, self.config.image_start_id)

    def load(self) -> Engine:
        """Load the graphs, once, and return their engine."""
        if self._engine is None:
            self._engine = Engine(self._exported, devices.placement(self._device), self._weights)
        return self._engine

    def generate(self, prompt: str, images: Files = (), *, max_new_tokens: int = 512, temperature: float = 0.0,
                 top_p: float = 1.0, top_k: int = 0, repetition_penalty: float = 1.0, min_new_tokens: int = 0,
                 seed: int = 0, stop: Sequence[int | str] = (), stream: Stream | None = None) -> Answer:
        """Continue a prompt, in the base model's format.

        prompt: text, in which `<img>path</img>` may name pictures; images: picture files put before it instead.
        temperature to seed: see infer.sampling_parameters.Sampling; greedy unless temperature is set.
        stop: further tokens that end the answer, besides the end of text: ids, or texts of one token each.
        stream: called with each piece of text as it comes.
        """
        settings = self.settings(max_new_tokens, Sampling(temperature, top_p, top_k, repetition_penalty,
                                                          min_new_tokens, seed), stop)
        ids, pictures = self.prepare(prompt, images, settings)
        return self.answer(ids, pictures, settings, stream)

    def chat(self, system: str = SYSTEM, max_window: int = MAX_WINDOW, label: str = CHAT_LABEL) -> Conversation:
        """Begin a conversation in the chat model's format; its `ask` takes the turns.

        system: the text that the conversation begins with. max_window: tokens of context; the oldest turns that do not
        fit are left out. label: how pictures are numbered, infer.prompt.CHAT_LABEL or LABEL (early releases).
        """
        return Conversation(self, system, max_window, label)

    def settings(self, max_new_tokens: int, sampling: Sampling, stop: Sequence[int | str] = (),
                 ends: Sequence[int] | None = None) -> Settings:
        """Settings with checked values; `ends` are the format's own stop tokens, by default the end of text."""
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens!r} is out of range: at least one token must be generated")
        if self._impl == "native":
            refuse_drawing([sampling])
        ids = [self.tokenizer.end_of_text] if ends is None else list(ends)
        for token in [stop] if isinstance(stop, str) else stop:
            token_ids = self.tokenizer.encode(token) if isinstance(token, str) else [token]
            if len(token_ids) != 1:
                raise UserError(f"stop={token!r} is {len(token_ids)} tokens: give texts of one token each, or ids")
            if not 0 <= token_ids[0] < self.config.vocab_size:
                raise UserError(f"stop={token!r} lies outside the vocabulary of {self.config.vocab_size}")
            ids += token_ids
        return Settings(max_new_tokens, sampling, tuple(ids))

    def prepare(self, prompt: str, images: Files, settings: Settings) -> tuple[list[int], list]:
        """(token ids, opened pictures) of a prompt as `generate` takes it, checked; needs no graph."""
        files = images_of(prompt, images)
        ids = self.tokenizer.encode(prompt if not images else with_image(prompt, len(files)))
        check_prompt(ids, len(files), settings.max_new_tokens, self.config)
        return ids, self.open_pictures(files, images)

    def open_pictures(self, files: Files, images: Files) -> list:
        """Opened pictures of the `files` that images_of gave for a text and `images`.

        Without `images` the text has named them, and they must lie in image_folders.
        """
        return [load_image(file, None if images else self._image_folders) for file in files]

    def answer(self, ids: list[int], pictures: list, settings: Settings, stream: Stream | None = None) -> Answer:
        """Generate from what `prepare` returned."""
        clock = self.clock()
        return self.respond(ids, self.encode(pictures, clock), settings, stream, clock)

    def clock(self) -> Clock:
        """A clock that starts now, with the graphs loaded."""
        return Clock(self.load())

    def encode(self, pictures, clock):
        """Image features of opened pictures, a list of [1, 256, H] each; the times go to the Clock `clock`."""
        features = []
        for picture in pictures:
            begun = time.perf_counter()
            pixels = clock.engine.preprocess([picture])
            encoding = clock.note("preprocess", begun)
            features.append(clock.engine.vision(pixels))
            clock.note("vision", encoding)
        return features

    def respond(self, ids, features, settings, stream, clock, cache=None):
        """The Answer to a prompt of token ids with image features; `cache` as in Engine.start."""
        run = clock.engine.start([ids], features, settings.max_new_tokens, settings.stop, sampling=[settings.sampling],
                                 cache=cache)
        reader, text, tokens, first = TextStream(self.tokenizer), "", [], None

        def give(piece):
            nonlocal text
            text += piece
            if piece and stream is not None:
                stream(piece)

        for new in run.stream():
            if first is None:
                first = clock.note("TTFT", clock.start)
            tokens += new
            stopped = tokens[-1] in settings.stop
            give(reader.add(new[:-1] if stopped else new))
        give(reader.end())
        if len(tokens) > 1:
            clock.note("TPOT", first, len(tokens) - 1)
        return Answer(text, tokens, "stop" if stopped else "length", len(ids), run.reused, clock.times)
