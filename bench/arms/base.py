"""What every arm does alike: the stages, their order and their clock. An arm adds only its framework's calls."""

import abc
import gc
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.device_clock import STEP, DeviceClock
from core.errors import UserError
from infer.image import load_image, to_pixels


@dataclass
class Generation:
    """One greedy generation as the clock saw it (time.perf_counter seconds)."""

    tokens: list            # [B][new_tokens] ids
    first: float            # the first token of every row is known to the host
    last: float             # so is the last
    launches: list | None = None   # host seconds of launching each decode step, where that is all the host does
    steps: list | None = None      # seconds of each decode step, where the host waits for it


class Arm(abc.ABC):
    """One way to run the model. `load`, then `prepare`, then any number of `outputs` and `measure`."""

    clock = None   # the GPU's, see bench.device_clock; None on a CPU
    chosen = ""    # which of several ways the arm took for itself, and why
    weights = {}   # what is known of them beside their dtype, as `load` returns it

    def load(self, source, dtype, device, threads, **options):
        """Load the weights in folder `source`.

        Returns {"load_ms", "weights"}: the time without importing the framework, and the format of their matrices on
        the device (ops.formats); from an engine that says so also "weights_bytes" and "decode_bytes", what all of them
        have and what a decode step reads.
        """
        self.on_gpu = device == "gpu"
        start = time.perf_counter()
        self.open(source, dtype, device, threads, **options)
        self.synchronize()
        return {"load_ms": (time.perf_counter() - start) * 1e3, "weights": dtype, **self.weights}

    def prepare(self, image, prompts, new_tokens):
        """`image` is a .npy file with the decoded photograph, uint8 [height, width, 3]; every row gets it.

        `prompts` are B lists of token ids, each with one image span; `new_tokens` >= 1 are made per row. May be called
        again for another case. Returns {"compile_ms"}, None where nothing is compiled.
        """
        self.release()
        self.images = [Image.fromarray(np.load(image, allow_pickle=False))] * len(prompts)
        self.prompts, self.new_tokens = prompts, new_tokens
        start = time.perf_counter()
        compiled = self.compile()
        self.synchronize()
        self.clock = DeviceClock(self.stream) if self.on_gpu else None
        return {"compile_ms": (time.perf_counter() - start) * 1e3 if compiled else None}

    def outputs(self):
        """What the accuracy gate compares, as numpy: image_features [B, 256, H], tokens, and logits [B, new_tokens, V]
        of arms that have them."""
        features = self.vision(self.preprocess(self.images))
        tokens, logits = self.greedy_logits(self.start(features))
        outputs = {"image_features": self.to_numpy(features), "tokens": np.array(tokens, np.int64)}
        return outputs if logits is None else {**outputs, "logits": logits}

    def text_logits(self, ids):
        """Logits of every position of a text without an image, float32 numpy [len(ids), V]."""
        raise NotImplementedError("the arm does not give a text's logits")

    def measure(self, cold=False):
        """One pass from the decoded image to the last token: {"stages": {stage: [ms]}, "tokens"}.

        The device is synchronised at every stage's end, so that the stages add up to end_to_end; `start` comes between
        vision's launch and its end. A `cold` pass, on a GPU, has the L2 cache overwritten before vision, prefill and
        every decode step, and gives those times alone. A stage has one number a pass: `token` and `host_step` are
        means over the pass's steps, whether or not the host knows of each; `least_step` is the fastest one, where it
        does.
        """
        if cold and (self.clock is None or self.clock.fault):
            raise UserError(f"no cold pass: {self.clock.fault if self.clock else 'the arm runs on no GPU'}")
        gc.collect()
        gc.disable()
        try:
            self.synchronize()
            if self.clock:
                self.clock.start(cold)
            start = time.perf_counter()
            pixels = self.preprocess(self.images)
            self.synchronize()
            preprocessed = time.perf_counter()
            self.begin("vision")
            features = self.vision(pixels)
            self.end("vision")
            started = self.start(features)
            self.synchronize()
            encoded = time.perf_counter()
            run = self.generate(started)
        finally:
            gc.enable()
        seconds = {"preprocess": [preprocessed - start], "vision": [encoded - preprocessed],
                   "prefill": [run.first - encoded], "ttft": [run.first - start], "decode": [], "token": [],
                   "host_step": [float(np.mean(run.launches))] if run.launches else [],
                   "least_step": [min(run.steps)] if run.steps else [],
                   "end_to_end": [run.last - start], "without_preprocess": [run.last - preprocessed]}
        steps = self.new_tokens - 1
        if steps:
            seconds["decode"] = [run.last - run.first]
            seconds["token"] = [(run.last - run.first) / steps]
        stages = {stage: [s * 1e3 for s in values] for stage, values in seconds.items()}
        spans = self.clock.milliseconds() if self.clock else {}
        if cold:
            stages = {f"{stage}_cold": spans.get(span, []) for stage, span in
                      (("vision", "vision"), ("prefill", "prefill"), ("token", STEP))}
        elif spans:
            stages |= {"vision_gpu": spans.get("vision", []), "prefill_gpu": spans.get("prefill", []),
                       "token_gpu": [ms / steps for ms in spans.get("decode", []) if steps]}
        return {"stages": stages, "tokens": run.tokens}

    def begin(self, span):
        """Begin a span on the GPU's clock: "vision" (made here), in `generate` "prefill", "decode" and every "step"."""
        if self.clock:
            self.clock.begin(span)

    def end(self, span):
        if self.clock:
            self.clock.end(span)

    def clock_state(self):
        """Where the stages' GPU times come from, or why there are none; None on a CPU."""
        if self.clock is None:
            return None
        return f"not available: {self.clock.fault}" if self.clock.fault else "CUDA events of the driver"

    def published_pass(self, image, tokenizer):
        """One pass as the published comparison timed it: image file to text, in ms; see bench/reproduce.py.

        `image` is the path of the photograph, `tokenizer` turns tokens into text. KV caches are made anew inside.
        """
        self.synchronize()
        start = time.perf_counter()
        pixels = self.preprocess([load_image(image)] * len(self.prompts))
        self.renew_caches()
        run = self.generate(self.start(self.vision(pixels)))
        for row in run.tokens:
            tokenizer.decode(row)
        self.synchronize()
        return (time.perf_counter() - start) * 1e3

    def renew_caches(self):  # noqa: B027  most arms make new ones for every generation
        """Make KV caches anew, filled with random numbers, if the arm keeps them between generations."""

    def compile(self):
        """Make ready for the case; returns whether anything was compiled."""
        return False

    def stream(self):
        """The CUDA stream that all of the arm's work is on, as an integer; asked for on a GPU only."""
        raise NotImplementedError("the arm does not name its stream")

    def release(self):  # noqa: B027  most arms hold nothing
        """Give back what was held for the case before, also after it ran out of memory."""

    def preprocess(self, images):
        """PIL images -> what `vision` takes, here float32 numpy [B, 3, S, S] made on the CPU as the reference does."""
        return to_pixels(images, self.image_size)

    @property
    @abc.abstractmethod
    def image_size(self):
        """Side of the encoder's input in pixels."""

    @abc.abstractmethod
    def open(self, source, dtype, device, threads, **options):
        """Load the weights; raises UserError or whatever the framework raises."""

    @abc.abstractmethod
    def vision(self, pixels):
        """What `preprocess` returned -> the framework's image features on the device."""

    def start(self, features):
        """What the host can prepare of a generation while the device still computes `features`; does not wait for it.

        Returns what `generate` and `greedy_logits` take, here the features alone.
        """
        return features

    @abc.abstractmethod
    def generate(self, started):
        """From what `start` returned: greedy, no stop token, `new_tokens` per row: a Generation."""

    def generate_stepwise(self, prefill, first_token, step, tokens):
        """The Generation of an arm that is driven step by step: `prefill` and `step` launch work, `first_token` and
        `tokens` (which returns them all) wait for it."""
        self.begin("prefill")
        prefill()
        self.end("prefill")
        first_token()
        first, launches = time.perf_counter(), []
        self.begin("decode")
        for _ in range(self.new_tokens - 1):
            self.begin("step")
            start = time.perf_counter()
            step()
            launches.append(time.perf_counter() - start)
            self.end("step")
        self.end("decode")
        all_tokens, last = tokens(), time.perf_counter()
        return Generation(all_tokens, first, last, *((launches, None) if self.on_gpu else (None, launches)))

    @abc.abstractmethod
    def greedy_logits(self, started):
        """The same generation with logits: (tokens [B][n], logits float32 [B, n, V], None if the arm keeps them)."""

    @abc.abstractmethod
    def to_numpy(self, features):
        """Image features as float32 numpy."""

    @abc.abstractmethod
    def synchronize(self):
        """Return when the device has finished everything."""

    @abc.abstractmethod
    def versions(self):
        """{wheel: version} of what this arm runs on, and "device_name" on a GPU."""

    @abc.abstractmethod
    def peak_memory(self):
        """(MiB, kind): peak since the process began; kind says what was counted."""


def peak_resident_mib():
    """Peak resident memory of this process in MiB (VmHWM)."""
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
