"""One run: check what was asked, let the arms contest, store the rows, tables and plots."""

import os
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, zip_longest
from pathlib import Path

import numpy as np

from bench import card, provenance
from bench.arms import ARMS, GATE_ARM
from bench.conditions import Gpu, Sampler
from bench.contest import Contest
from bench.device_memory import DeviceMemory
from bench.gate import Judge, half_errors
from bench.process import Worker, WorkerFailed
from bench.progress import Progress
from bench.results import check_writable, store_rows, write_results
from bench.schema import CASE_STAGES, OPTIONAL, STAGES, Case, Row
from bench.stopping import Stopping, is_warm
from bench.work import matrix_shapes, weights_bytes, work
from core.errors import UserError
from export.checkpoint import open_checkpoint
from infer.image import load_image
from infer.prompt import with_image
from infer.tokenizer import Tokenizer

VOCABULARY = "qwen.tiktoken"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
KERNEL_LIBRARY = "libqwen_vl_kernels.so"
CEILINGS = "bench.ceilings:Ceilings"
COLD_PASSES = 3
MEMORY_SHARE = 0.8   # of the device that arms loaded together may fill with weights


@dataclass
class Options:
    """What a run is asked for; the names are those of the command line."""

    checkpoint: str
    image: str
    prompt: str
    out: str
    exported_native: str = ""
    exported_fused: str = ""
    exported_stock: str = ""
    arms: list = field(default_factory=list)
    preset: str = ""               # default: the checkpoint folder's name
    dtype: str = "float32"
    device: str = "cpu"            # "cpu" | "gpu"
    batch: int = 1
    new_tokens: int = 32
    prompt_tokens: int = 0         # the prompt's text is repeated until it has as many; 0: as it is
    rounds: int = 200              # the most
    budget: float = 45             # seconds of rounds, of all arms together
    warmup: int = 8                # the most passes of an arm; 0: none, and no first run
    batches: list = field(default_factory=list)    # further cases: these batches with `new_tokens`,
    lengths: list = field(default_factory=list)    # and these numbers of new tokens with `batch`
    case_rounds: int = 3
    case_arms: list = field(default_factory=list)  # arms that measure them; none: all
    case_budget: float = 0         # seconds of an arm after which it begins no further case; 0: none
    cold: int = COLD_PASSES        # passes with the L2 cache overwritten before each stage, on a GPU
    sequential: bool = False       # one arm after the other, although all would fit into memory
    deadline: float = 0            # seconds after which nothing new is begun; 0: none
    threads: int = 0               # 0: physical cores
    python: dict = field(default_factory=dict)        # framework -> interpreter
    environment: dict = field(default_factory=dict)   # framework -> {variable: value}


def make_prompts(options, config):
    """B equal prompts of token ids with one image each; raises UserError when they do not fit the model.

    A prompt that shall have `options.prompt_tokens` goes on with the tokens of its own text, again and again.
    """
    tokenizer = Tokenizer(Path(options.checkpoint) / VOCABULARY, config.image_start_id)
    ids = tokenizer.encode(with_image(options.prompt, 1))
    if options.prompt_tokens:
        text = tokenizer.encode(options.prompt)
        ids += list(islice(cycle(text), max(0, options.prompt_tokens - len(ids)))) if text else []
        if len(ids) != options.prompt_tokens:
            raise UserError(f"--prompt-tokens {options.prompt_tokens}: the prompt has {len(ids)}, and only more can be "
                            "made of it")
    total = len(ids) + max(options.new_tokens, *options.lengths, 0)
    if total > config.max_position_embeddings:
        raise UserError(f"prompt and new tokens need {total} positions, the model has "
                        f"{config.max_position_embeddings}: shorten the prompt or lower --new-tokens")
    return [ids] * options.batch


def missing_source(spec, options):
    """Why an arm has nothing to load, or nothing to run on, or None."""
    if spec.gpu_only and options.device == "cpu":
        return f"needs a GPU: {spec.gpu_only}"
    source = getattr(options, spec.source)
    if not source:
        return f"no --{spec.source.replace('_', '-')} given"
    return None if Path(source).is_dir() else f"{source} does not exist: export it first"


def further_cases(case, options):
    """The other cases of a run, each once: every batch at the run's length, every length at the run's batch.

    They take turns, so that a budget which ends early has seen some of both.
    """
    made = []
    for batch, length in zip_longest(options.batches, options.lengths):
        made += [replace(case, batch=batch)] if batch else []
        made += [replace(case, new_tokens=length)] if length else []
    return [other for other in dict.fromkeys(made) if other != case]


def rounds_of(result, case, asked, done, interrupted):
    """What provenance says about an arm's rounds in one case."""
    return {**asked, "done": done, "warmup": len(result.warmup), "warm": is_warm(result.warmup, case.device),
            "stopped": result.stopped, "interrupted": interrupted}


def arm_rows(entry, case, conditions, rounds):
    """One arm's rows: all stages of the gated case, then those of further cases that have something to say.

    An arm that dropped out keeps the samples it has.
    """
    asked = conditions["rounds"]
    interrupted = asked["interrupted"]
    conditions = {**conditions, "versions": entry.versions,
                  "rounds": rounds_of(entry, case, asked, entry.rounds, interrupted)}
    rows = []
    for at, result, stages in ((case, entry, STAGES), *((at, made, CASE_STAGES) for at, made in entry.cases.items())):
        if at != case:
            made_rounds = rounds_of(result, at, {"asked": rounds}, len(result.samples.get("end_to_end", [])), False)
            conditions = {**conditions, "rounds": made_rounds, "work": conditions["work_of"][at.slug]}
        stored = {key: value for key, value in conditions.items() if key != "work_of"}
        stored["work"] = {**conditions["work"], **entry.work}
        for stage in stages:
            samples = result.samples.get(stage, [])
            if stage in OPTIONAL and not samples:
                continue
            status, reason = result.status, result.reason
            if status == "ok" and not samples:
                status, reason = "skipped", "nothing to measure"  # a decode of one token has no steps
            reason = provenance.without_paths(reason)
            rows.append(Row(entry.name, stage, status, reason, samples, at, stored, entry.counted.get(stage, "")))
    return rows


class Session:
    """What all workers of one run are started and loaded with; `deadline` as in bench.process.Worker."""

    def __init__(self, options, specs, image, ids, threads, scratch, deadline=None):
        self.options, self.specs, self.ids, self.threads, self.deadline = options, specs, ids, threads, deadline
        self.scratch = Path(scratch)
        self.picture = str(self.scratch / "image.npy")
        np.save(self.picture, image)

    def start(self, framework):
        """(interpreter, environment) of a framework's workers."""
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        return (self.options.python[framework],
                {**threads, **card.counted_as_nvml(), **self.options.environment.get(framework, {})})

    def load(self, spec, **changes):
        """Arguments of the `load` call."""
        return {"source": str(Path(getattr(self.options, spec.source)).resolve()), "dtype": self.options.dtype,
                "device": self.options.device, "threads": self.threads, **spec.options, **changes}

    def prepare(self, case):
        """Arguments of the `prepare` call."""
        return {"image": self.picture, "prompts": [self.ids] * case.batch, "new_tokens": case.new_tokens}

    def spawn(self, contest, entries):
        """Start every arm that has weights; the others leave as skipped."""
        for entry in entries:
            spec = self.specs[entry.name]
            reason = missing_source(spec, self.options)
            if reason:
                entry.leave("skipped", reason)
            else:
                python, env = self.start(spec.framework)
                contest.spawn(entry, spec.target, python, {**env, **spec.environment}, spec.root)
        contest.wait_ready()

    def load_group(self, contest, case):
        for entry in contest.running:
            contest.load(entry, self.load(self.specs[entry.name]), self.prepare(case))

    def gate_outputs(self, progress, case, **load):
        """Outputs of the gate arm, loaded with changed arguments and closed again; None, with a note, if it fails."""
        spec = self.specs[GATE_ARM]
        with Contest([f"reference-{load['dtype']}"], self.scratch, progress, self.deadline) as alone:
            entry, = alone.entries
            alone.spawn(entry, spec.target, *self.start(spec.framework))
            alone.wait_ready()
            if entry.worker:
                alone.load(entry, self.load(spec, **load), self.prepare(case))
            outputs = alone.outputs(entry) if entry.worker else None
        if outputs is None:
            progress.note(f"{entry.name}: {entry.status}: {entry.reason}")
        return outputs

    def judge(self, progress, case):
        """The gate; in half precision its float32 reference runs now, over the same rounded weights."""
        dtype = self.options.dtype
        if dtype == "float32":
            return Judge(dtype, GATE_ARM)
        reference = self.gate_outputs(progress, case, dtype="float32", rounded_to=dtype)
        scale = None
        if reference is not None and GATE_ARM not in self.options.arms:
            outputs = self.gate_outputs(progress, case, dtype=dtype)
            scale = None if outputs is None else half_errors(reference, outputs)
        return Judge(dtype, GATE_ARM, reference, scale)

    def ceilings(self, progress, case, config):
        """The device's ceilings, see bench.ceilings; {"reason"} if they cannot be measured."""
        progress.doing("ceilings of the device")
        operators = self.options.environment.get("paddle", {}).get("QWEN_VL_OPS") or os.environ.get("QWEN_VL_OPS")
        library = (Path(operators).parent if operators else provenance.ROOT / "build" / "ops" / "gpu") / KERNEL_LIBRARY
        worker = None
        try:
            worker = Worker(CEILINGS, self.start("torch")[0], self.scratch / "ceilings.log", self.start("torch")[1],
                            deadline=self.deadline)
            worker.wait_ready()
            found = worker.call("ceilings", library=str(library.resolve()), dtype=case.dtype,
                                shapes=matrix_shapes(config, case.batch, case.prompt_tokens))
        except WorkerFailed as e:
            found = {"reason": str(e)}
        finally:
            if worker:
                worker.close()
        return {name: provenance.without_paths(value) if isinstance(value, str) else value
                for name, value in found.items()}


def watched_gpu(options):
    """The bench.conditions.Gpu that the arms run on, of a run on the CPU the first; UserError if they have several."""
    return Gpu(environment=card.seen_by(options.environment.values()) if options.device == "gpu" else None)


def is_sequential(options, config, arms, memory):
    """Whether arms must hold their weights one after the other: asked for, or too much for the device together."""
    if options.sequential or options.device != "gpu" or memory.total is None:
        return options.sequential
    return arms * weights_bytes(config, options.dtype) / 2**20 > MEMORY_SHARE * memory.total


def in_sequence(entries, specs):
    """Groups of one arm each: the gate's first, then Paddle's, so that a deadline cuts off baselines, slowest last."""
    return [[entry] for entry in sorted(entries, key=lambda entry: (
        entry.name != GATE_ARM, specs[entry.name].framework != "paddle"))]


def run(options, argv, progress=None, specs=ARMS, memory=None):
    """Measure and write results; returns (their folder, rows). See `measured`.

    Rows are stored after every group of arms, so that a run that is killed leaves what it had.
    """
    rows, accuracy = measured(options, argv, progress, specs, memory, store=store_rows)
    return write_results(options.out, rows, accuracy), rows


def measured(options, argv, progress=None, specs=ARMS, memory=None, narrow=None, store=None, before=None):
    """Measure; returns (rows, accuracy). Raises UserError before anything is started or written.

    A gate that fails, a worker that dies or a full memory is a row; so is an arm without weights. `memory` is a
    DeviceMemory, `narrow` what bench.stopping.Stopping takes, `store` is called with (out, rows, accuracy) after every
    group of arms where there are several, `before` with (case, conditions), the rows' provenance as far as it is known,
    before anything is started: it may raise UserError.
    """
    deadline = time.monotonic() + options.deadline if options.deadline else None
    checkpoint = open_checkpoint(options.checkpoint)
    config = checkpoint.config
    image = np.asarray(load_image(options.image), np.uint8)
    (ids, *_) = make_prompts(options, config)
    threads = options.threads or provenance.physical_cores()
    check_writable(options.out)
    preset = provenance.preset_name(options.preset or Path(options.checkpoint).resolve().name)
    case = Case(preset, options.dtype, options.device, options.batch, len(ids), options.new_tokens)
    others = further_cases(case, options)
    exported = [path for name, path in vars(options).items() if name.startswith("exported_") and Path(path).is_dir()
                and path]
    gpu = watched_gpu(options)
    conditions = provenance.collect(argv, threads, provenance.checkpoint_identity(checkpoint, exported),
                                    options.image, gpu)
    if before:
        before(case, conditions)
    conditions["work"] = work(case, config)
    conditions["work_of"] = {other.slug: work(other, config) for other in others}
    rounds = conditions["rounds"] = {"asked": options.rounds, "budget_s": options.budget, "interrupted": False}
    if memory is None and options.device == "gpu":
        memory = DeviceMemory(environment=card.seen_by(options.environment.values()))
    with (tempfile.TemporaryDirectory(prefix="bench-") as scratch, progress or Progress() as shown,
          Sampler(gpu) as sampler, Contest(options.arms, scratch, shown, deadline) as contest):
        session = Session(options, specs, image, ids, threads, scratch, deadline)
        if options.device == "gpu":
            conditions["ceilings"] = session.ceilings(shown, case, config)
        judge = session.judge(shown, case)
        session.spawn(contest, contest.entries)
        started = [entry for entry in contest.entries if entry.worker]
        sequential = conditions["sequential"] = is_sequential(options, config, len(started), memory)
        groups = in_sequence(started, specs) if sequential else [started]
        try:
            for group in groups:
                contest.group = group
                stopping = Stopping(options.rounds, options.budget / len(groups), narrow)
                measure_group(contest, session, case, others, judge, memory if sequential else None, config, stopping)
                contest.close_group()
                if sequential and store:
                    store(options.out, *results_of(contest, case, conditions, options, judge))
        except KeyboardInterrupt:
            rounds["interrupted"] = True
            shown.note("interrupted: keeping what was measured")
        for entry in contest.entries:
            if entry.status != "ok":
                shown.note(f"{entry.name}: {entry.status}: {entry.reason}")
        conditions["during"] = sampler.summary()
        return results_of(contest, case, conditions, options, judge)


def measure_group(contest, session, case, others, judge, memory, config, stopping):
    """Everything that the arms of one group do; `memory` watches the device where one arm has it for itself."""
    if memory:
        memory.start()
    try:
        session.load_group(contest, case)
        for entry in contest.running:
            if entry.weights["weights"] != case.dtype:
                entry.work = {name: value for name, value in entry.weights.items() if name != "weights_bytes"}
        if session.options.warmup:
            contest.first_run()
        contest.pass_gate(judge)
        contest.warm_up(session.options.warmup, case.device)
        contest.measure(stopping)
        contest.peak_memory()
    finally:
        used = memory.stop() if memory else None
    if used is not None:
        for entry in contest.running:
            entry.samples["device_memory"] = [used]
            entry.counted["device_memory"] = f"use of the whole device, by {memory.source}"
            entry.samples["beyond_weights"] = [
                used - entry.weights.get("weights_bytes", weights_bytes(config, case.dtype)) / 2**20]
    if case.device == "gpu":
        contest.measure_cold(session.options.cold)
    for other in others:
        contest.measure_case(other, session.prepare(other), session.options.case_rounds,
                             session.options.warmup, judge,
                             session.options.case_arms or session.options.arms, session.options.case_budget)


def results_of(contest, case, conditions, options, judge):
    """(rows, accuracy) of what is there by now."""
    rows = [row for entry in contest.entries for row in arm_rows(entry, case, conditions, options.case_rounds)]
    return rows, {
        "reference": judge.name, "dtype": options.dtype, "scale": judge.scale,
        "arms": {entry.name: entry.accuracy for entry in contest.entries},
        "agreement": {other.slug: {entry.name: entry.cases[other].agreement for entry in contest.entries
                                   if other in entry.cases} for other in further_cases(case, options)}}


def exit_status(rows):
    """0 when every arm that was not skipped or too large was measured and passed the gate; 130 interrupted; else 1."""
    if any(row.provenance["rounds"]["interrupted"] for row in rows):
        return 130
    failed = any(row.status == "failed" for row in rows)
    measured = any(row.samples for row in rows if row.stage == "end_to_end")
    return int(failed or not measured)


def default_device():
    return "gpu" if os.path.exists("/dev/nvidia0") else "cpu"
