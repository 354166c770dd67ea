"""What the workers of one run are started, loaded and prepared with."""

import os
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from bench import card, provenance
from bench.arms import GATE_ARM, fused
from bench.conditions import Gpu
from bench.contest import Contest
from bench.gate import Judge, cut, half_errors
from bench.process import Worker, WorkerFailed
from bench.text import text_ids
from bench.work import matrix_shapes
from bench.yardstick import YARDSTICKS
from core.config import ModelConfig
from core.errors import UserError
from core.ranks import VOCABULARY
from export.checkpoint import open_checkpoint
from infer.image import load_image
from infer.prompt import with_image
from infer.tokenizer import Tokenizer
from ops.build import KERNELS_NAME

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NEW_LENGTH = 37   # tokens that the first prompt of a new length has more: no size that kernels are made for
CEILINGS = "bench.ceilings:Ceilings"


def read_inputs(options):
    """(checkpoint, image, token ids) of what every row gets: an export.checkpoint.Checkpoint, uint8
    [height, width, 3], and a prompt with one image; raises UserError for what cannot be read or does not fit the model.

    A prompt that shall have `prompt_tokens` goes on with the tokens of its own text, again and again.
    """
    case, checkpoint = options.case, open_checkpoint(options.sources.checkpoint)
    config, image = checkpoint.config, np.asarray(load_image(case.photograph), np.uint8)
    tokenizer = Tokenizer(Path(options.sources.checkpoint) / VOCABULARY, config.image_start_id)
    ids = tokenizer.encode(with_image(case.prompt, 1))
    if case.prompt_tokens:
        text = tokenizer.encode(case.prompt)
        ids += list(islice(cycle(text), max(0, case.prompt_tokens - len(ids)))) if text else []
        if len(ids) != case.prompt_tokens:
            raise UserError(f"--prompt-tokens {case.prompt_tokens}: the prompt has {len(ids)}, and only more can be "
                            "made of it")
    total = len(ids) + max(case.new_tokens, *options.further.lengths, 0)
    if total > config.max_position_embeddings:
        raise UserError(f"prompt and new tokens need {total} positions, the model has "
                        f"{config.max_position_embeddings}: shorten the prompt or lower --new-tokens")
    return checkpoint, image, ids


def missing_source(spec, options):
    """Why an arm has nothing to load, or nothing to run on, or None."""
    if spec.gpu_only and options.case.device == "cpu":
        return f"needs a GPU: {spec.gpu_only}"
    source = options.sources.folders.get(spec.source)
    if not source:
        return f"no --{spec.source.replace('_', '-')} given"
    return None if Path(source).is_dir() else f"{source} does not exist: export it first"


def text_of(reference, ids):
    """(ids, logits) of a text, which are taken out of a reference's outputs; None if there are none."""
    logits = reference.pop("text", None) if reference else None
    return None if logits is None else (ids, logits)


class Session:
    """What all workers of one run are started and loaded with.

    options: a bench.options.RunOptions; specs: {arm: ArmSpec}; image: what every row gets, uint8 [height, width, 3];
    ids: the prompt's tokens; deadline: as in bench.process.Worker.
    """

    def __init__(self, options, specs, image, ids, scratch, deadline=None):
        self.case, self.sources, self.options = options.case, options.sources, options
        self.specs, self.ids, self.deadline = specs, ids, deadline
        self.scratch = Path(scratch)
        self.picture = str(self.scratch / "image.npy")
        np.save(self.picture, image)

    def start(self, framework):
        """(interpreter, environment) of a framework's workers."""
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.sources.cpu_threads))
        return (self.sources.python[framework],
                {**threads, **card.counted_as_nvml(), **self.sources.environment.get(framework, {})})

    def load(self, spec, **changes):
        """Arguments of the `load` call."""
        asked = fused(self.options.weights)
        kept = asked.options if asked.name == spec.name else {}
        return {"source": str(Path(self.sources.folders[spec.source]).resolve()), "dtype": self.case.dtype,
                "device": self.case.device, "threads": self.sources.cpu_threads, **spec.options, **kept, **changes}

    def prepare(self, case):
        """Arguments of the `prepare` call."""
        return {"image": self.picture, "prompts": [self.ids] * case.batch, "new_tokens": case.new_tokens}

    def new_lengths(self, case, number, config):
        """Arguments of the `prepare` calls for `number` prompts of lengths that no arm has seen, for one new token."""
        lengths = [NEW_LENGTH + i for i in range(number)
                   if len(self.ids) + NEW_LENGTH + i < config.max_position_embeddings]
        return [{**self.prepare(case), "prompts": [self.ids + self.ids[-1:] * more] * case.batch, "new_tokens": 1}
                for more in lengths]

    def spawn(self, contest, entries, launches=1):
        """Start the workers of so many launches of every arm that has weights; the others leave as skipped."""
        for entry in entries:
            spec = self.specs[entry.name]
            reason = missing_source(spec, self.options)
            if reason:
                entry.leave("skipped", reason)
            else:
                python, env = self.start(spec.framework)
                contest.spawn(entry, spec.target, python, {**env, **spec.environment}, spec.root, launches)
        contest.wait_ready()

    def load_group(self, contest, case):
        loads = {entry.name: self.load(self.specs[entry.name]) for entry in contest.running}
        contest.load_together(loads)
        for entry in contest.running:
            contest.load(entry, loads[entry.name], self.prepare(case))

    def start_yardstick(self, contest):
        """Start what times the device itself; it imports its framework while the arms import theirs."""
        kind = YARDSTICKS[self.case.device]
        contest.spawn(contest.yardstick, kind.target, *self.start(kind.framework))

    def prepare_yardstick(self, contest, case, config):
        shapes = matrix_shapes(config, case.batch, case.prompt_tokens)["prefill"]
        if contest.yardstick.worker:
            contest.wait_for(contest.yardstick)
        if contest.yardstick.worker:
            contest.yardstick.versions = contest.yardstick.call("prepare", dtype=case.dtype, shapes=shapes) or {}

    def gate_outputs(self, progress, case, text=(), **load):
        """Outputs of the gate arm, loaded with changed arguments and closed again; None, with a note, if it fails.

        text: token ids whose logits are then among the outputs, as "text".
        """
        spec, name = self.specs[GATE_ARM], f"reference-{load.get('quantised_to') or load['dtype']}"
        with Contest([name], self.scratch, progress, self.deadline) as alone:
            entry, = alone.entries
            alone.spawn(entry, spec.target, *self.start(spec.framework))
            alone.wait_ready()
            if entry.worker:
                alone.load(entry, self.load(spec, **load), self.prepare(case))
            outputs = alone.outputs(entry) if entry.worker else None
            if outputs is not None and text:
                outputs["text"] = alone.text_logits(entry, text)
        if outputs is None:
            progress.note(f"{entry.name}: {entry.status}: {entry.reason}")
        return outputs

    def judge(self, progress, case, for_verdict=False):
        """The gate. Its float32 reference runs now in half precision, over the same rounded weights; where a further
        case has more tokens than the gated one; and for a verdict, whose arms would else be held to each other alone.
        """
        dtype, lengths = self.case.dtype, self.options.further.lengths
        longest = replace(case, new_tokens=max(case.new_tokens, *lengths, 0))
        rounding = {arm: self.specs[arm].rounds_to for arm in self.options.arms if self.specs[arm].rounds_to}
        text = self.text() if rounding else ()
        rounded, half = {}, {"rounded_to": dtype} if dtype != "float32" else {}
        for arm, format in rounding.items():
            rounded[arm] = self.gate_outputs(progress, longest, dtype="float32", quantised_to=format, **half)
        if dtype == "float32":
            needed = longest != case or (for_verdict and GATE_ARM in self.specs) or rounding
            reference = self.gate_outputs(progress, longest, text, dtype=dtype) if needed else None
            return Judge(dtype, GATE_ARM, reference, None, rounded, text_of(reference, text))
        reference = self.gate_outputs(progress, longest, text, dtype="float32", rounded_to=dtype)
        scale = None
        if reference is not None and GATE_ARM not in self.options.arms:
            outputs = self.gate_outputs(progress, case, dtype=dtype)
            scale = None if outputs is None else half_errors(cut(reference, case.new_tokens), outputs)
        return Judge(dtype, GATE_ARM, reference, scale, rounded, text_of(reference, text))

    def text(self):
        """Tokens of the text that what rounding costs is told with (bench/text.py)."""
        config = ModelConfig.load(self.sources.checkpoint)
        tokenizer = Tokenizer(Path(self.sources.checkpoint) / VOCABULARY, config.image_start_id)
        return text_ids(tokenizer, config.max_position_embeddings - 1)   # engines want room for a new token

    def ceilings(self, progress, case, config):
        """The device's ceilings, see bench.ceilings; {"reason"} if they cannot be measured."""
        progress.doing("ceilings of the device")
        operators = self.sources.environment.get("paddle", {}).get("QWEN_VL_OPS") or os.environ.get("QWEN_VL_OPS")
        library = (Path(operators).parent if operators else provenance.ROOT / "build" / "ops" / "gpu") / KERNELS_NAME
        python, env = self.start("torch")
        try:
            with Worker(CEILINGS, python, self.scratch / "ceilings.log", env, deadline=self.deadline) as worker:
                ceilings = worker.call("ceilings", library=str(library.resolve()), dtype=case.dtype,
                                       shapes=matrix_shapes(config, case.batch, case.prompt_tokens))
        except WorkerFailed as e:
            ceilings = {"reason": str(e)}
        return {name: provenance.without_paths(value) if isinstance(value, str) else value
                for name, value in ceilings.items()}


def watched_gpu(options):
    """The bench.conditions.Gpu that the arms run on, of a run on the CPU the first; UserError if they have several."""
    return Gpu(environment=card.seen_by(options.sources.environment.values()) if options.case.device == "gpu" else None)
