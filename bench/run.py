"""One run: check what was asked, let the arms contest, store the rows, tables and plots."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import provenance
from bench.arms import ARMS
from bench.contest import Contest
from bench.progress import Progress
from bench.results import check_writable, write_results
from bench.schema import STAGES, Case, Row
from core.config import ModelConfig
from core.errors import UserError
from infer.image import load_image
from infer.prompt import with_image
from infer.tokenizer import Tokenizer

VOCABULARY = "qwen.tiktoken"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Options:
    """What a run is asked for; the names are those of the command line."""

    checkpoint: str
    image: str
    prompt: str
    out: str
    exported_native: str = ""
    exported_fused: str = ""
    arms: list = field(default_factory=lambda: list(ARMS))
    preset: str = ""               # default: the checkpoint folder's name
    dtype: str = "float32"
    device: str = "cpu"            # "cpu" | "gpu"
    batch: int = 1
    new_tokens: int = 32
    rounds: int = 8
    warmup: int = 2
    threads: int = 0               # 0: physical cores
    python: dict = field(default_factory=dict)        # framework -> interpreter
    environment: dict = field(default_factory=dict)   # framework -> {variable: value}


def make_prompts(options, config):
    """B equal prompts of token ids with one image each; raises UserError when they do not fit the model."""
    tokenizer = Tokenizer(Path(options.checkpoint) / VOCABULARY, config.image_start_id)
    ids = tokenizer.encode(with_image(options.prompt, 1))
    total = len(ids) + options.new_tokens
    if total > config.max_position_embeddings:
        raise UserError(f"prompt and new tokens need {total} positions, the model has "
                        f"{config.max_position_embeddings}: shorten the prompt or lower --new-tokens")
    return [ids] * options.batch


def missing_source(spec, options):
    """Why an arm has nothing to load, or None."""
    source = getattr(options, spec.source)
    if not source:
        return f"no --{spec.source.replace('_', '-')} given"
    return None if Path(source).is_dir() else f"{source} does not exist: export it first"


def arm_rows(entry, case, conditions):
    """All stages of one arm as rows; an arm that dropped out keeps the samples it has."""
    rows = []
    for stage in STAGES:
        samples = entry.samples.get(stage, [])
        status, reason = entry.status, entry.reason
        if status == "ok" and not samples:
            status, reason = "skipped", "nothing to measure"  # a decode of one token has no steps
        rows.append(Row(entry.name, stage, status, reason, samples, case,
                        {**conditions, "versions": entry.versions},
                        entry.counted if stage == "peak_memory" else ""))
    return rows


def start_arms(contest, options, specs, image, prompts, threads):
    """Start every arm that has weights; the others leave as skipped."""
    picture = str(contest.scratch / "image.npy")
    np.save(picture, image)
    for entry in contest.entries:
        spec = specs[entry.name]
        reason = missing_source(spec, options)
        if reason:
            entry.leave("skipped", reason)
            continue
        env = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **options.environment.get(spec.framework, {})}
        contest.spawn(entry, spec.target, options.python[spec.framework], env)
    contest.wait_ready()
    for entry in contest.running:
        spec = specs[entry.name]
        contest.load(entry, {"source": str(Path(getattr(options, spec.source)).resolve()), "dtype": options.dtype,
                             "device": options.device, "threads": threads, **spec.options},
                     {"image": picture, "prompts": prompts, "new_tokens": options.new_tokens})


def run(options, argv, progress=None, specs=ARMS):
    """Measure; returns (folder of results, rows). Raises UserError before anything is started or written.

    A gate that fails, a worker that dies or a full memory is a row; so is an arm without weights.
    """
    config = ModelConfig.load(options.checkpoint)
    image = np.asarray(load_image(options.image), np.uint8)
    prompts = make_prompts(options, config)
    threads = options.threads or provenance.physical_cores()
    check_writable(options.out)
    case = Case(options.preset or Path(options.checkpoint).resolve().name, options.dtype, options.device,
                options.batch, len(prompts[0]), options.new_tokens)
    exported = [path for path in (options.exported_native, options.exported_fused) if path and Path(path).is_dir()]
    conditions = provenance.collect(argv, threads, provenance.checkpoint_identity(options.checkpoint, exported),
                                    options.image)
    with (tempfile.TemporaryDirectory(prefix="bench-") as scratch, progress or Progress() as shown,
          Contest(options.arms, scratch, shown) as contest):
        start_arms(contest, options, specs, image, prompts, threads)
        reference = contest.pass_gate(options.dtype)
        interrupted = False
        try:
            contest.warm_up(options.warmup)
            contest.measure(options.rounds)
        except KeyboardInterrupt:
            interrupted = True
            shown.note(f"interrupted: keeping {contest.rounds} of {options.rounds} rounds")
        conditions["rounds"] = {"asked": options.rounds, "done": contest.rounds, "warmup": options.warmup,
                                "interrupted": interrupted}
        if not interrupted:
            contest.finish()
        for entry in contest.entries:
            if entry.status != "ok":
                shown.note(f"{entry.name}: {entry.status}: {entry.reason}")
    rows = [row for entry in contest.entries for row in arm_rows(entry, case, conditions)]
    accuracy = {"reference": reference, "dtype": options.dtype,
                "arms": {entry.name: entry.accuracy for entry in contest.entries}}
    return write_results(options.out, rows, accuracy), rows


def exit_status(rows):
    """0 when every arm that was not skipped or too large was measured and passed the gate; 130 interrupted; else 1."""
    if rows[0].provenance["rounds"]["interrupted"]:
        return 130
    failed = any(row.status == "failed" for row in rows)
    measured = any(row.samples for row in rows if row.stage == "end_to_end")
    return int(failed or not measured)


def default_device():
    return "gpu" if os.path.exists("/dev/nvidia0") else "cpu"
