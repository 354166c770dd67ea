"""One run: check what was asked, let the arms contest, store the rows, tables and plots."""

import tempfile
import time
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from bench import card, provenance
from bench.arms import ARMS, GATE_ARM
from bench.conditions import Sampler
from bench.contest import Contest
from bench.device_memory import DeviceMemory
from bench.progress import Progress
from bench.results import check_writable, store_rows, write_results
from bench.schema import CASE_STAGES, OPTIONAL, STAGES, Case, Row
from bench.session import Session, read_inputs, watched_gpu
from bench.stopping import EqualRounds, Stopping, is_warm
from bench.work import weights_bytes, work

MEMORY_SHARE = 0.8   # of the device that arms loaded together may fill with weights


def further_cases(case, further):
    """The other cases of a run, each once: every batch at the run's length, every length at the run's batch.

    They take turns, so that a budget which ends early has seen some of both.
    """
    cases = []
    for batch, length in zip_longest(further.batches, further.lengths):
        cases += [replace(case, batch=batch)] if batch else []
        cases += [replace(case, new_tokens=length)] if length else []
    return [other for other in dict.fromkeys(cases) if other != case]


def arm_rows(entry, case, conditions, case_rounds, config):
    """One arm's rows: all stages of the gated case, then those of further cases that have something to say.

    An arm that dropped out keeps the samples it has.
    """
    rows = []
    for row_case, result in {case: entry, **entry.cases}.items():
        if row_case == case:
            stages, rounds, done = STAGES, conditions["rounds"], entry.rounds
        else:
            stages, rounds = CASE_STAGES, {"asked": case_rounds, "interrupted": False}
            done = len(result.samples.get("end_to_end", []))
        lossy = {"lossy": {"what": entry.lossy, **(entry.accuracy or {}).get("lossy", {})}} if entry.lossy else {}
        stored = {**conditions, **lossy, "versions": entry.versions, "work": {**work(row_case, config), **entry.work},
                  "rounds": {**rounds, "done": done, "warmup": len(result.warmup), "stopped": result.stopped,
                             "warm": is_warm(result.warmup, case.device)}}
        for stage in stages:
            samples = result.samples.get(stage, [])
            if stage in OPTIONAL and not samples:
                continue
            status, reason = result.status, result.reason
            if status == "ok" and not samples:
                status, reason = "skipped", "nothing to measure"  # a decode of one token has no steps
            reason = provenance.without_paths(reason)
            rows.append(Row(entry.name, stage, status, reason, samples, row_case, stored, entry.counted.get(stage, "")))
    return rows


def is_sequential(options, config, arms, memory):
    """Whether arms must hold their weights one after the other: asked for, or too much for the device together."""
    if options.limits.sequential or options.case.device != "gpu" or memory.total is None:
        return options.limits.sequential
    return arms * weights_bytes(config, options.case.dtype) / 2**20 > MEMORY_SHARE * memory.total


def in_sequence(entries):
    """Groups of one arm each, the gate's first: it is the slowest on a GPU, and its rounds say how many all make."""
    return [[entry] for entry in sorted(entries, key=lambda entry: entry.name != GATE_ARM)]


def share_of_deadline(deadline, begin, groups):
    """Seconds from now on that each of `groups` arms may spend on rounds, None without a deadline: what this one has
    needed since `begin` to be loaded, judged and warmed up, the others need as well."""
    if deadline is None:
        return None
    now = time.monotonic()
    return (deadline - now - (groups - 1) * (now - begin)) / groups


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
    case_options, sources, limits = options.case, options.sources, options.limits
    deadline = time.monotonic() + limits.deadline if limits.deadline else None
    checkpoint, image, ids = read_inputs(options)
    config = checkpoint.config
    check_writable(options.out)
    preset = provenance.preset_name(case_options.preset or Path(sources.checkpoint).resolve().name)
    case = Case(preset, case_options.dtype, case_options.device, case_options.batch, len(ids), case_options.new_tokens)
    others = further_cases(case, options.further)
    exported = [path for name, path in sources.folders.items() if name != "checkpoint" and path
                and Path(path).is_dir()]
    gpu = watched_gpu(options)
    conditions = provenance.collect(argv, sources.cpu_threads,
                                    provenance.checkpoint_identity(checkpoint, exported), case_options.photograph,
                                    gpu)
    if before:
        before(case, conditions)
    conditions["rounds"] = {"asked": limits.rounds, "budget_s": limits.budget, "interrupted": False}
    if memory is None and case.device == "gpu":
        memory = DeviceMemory(environment=card.seen_by(sources.environment.values()))
    with (tempfile.TemporaryDirectory(prefix="bench-") as scratch, progress or Progress() as progress,
          Sampler(gpu) as sampler, Contest(options.arms, scratch, progress, deadline) as contest):
        session = Session(options, specs, image, ids, scratch, deadline)
        for entry in contest.entries:
            entry.lossy = specs[entry.name].lossy
        if case.device == "gpu":
            conditions["ceilings"] = session.ceilings(progress, case, config)
        judge = session.judge(progress, case)
        session.spawn(contest, contest.entries)
        started = [entry for entry in contest.entries if entry.worker]
        sequential = conditions["sequential"] = is_sequential(options, config, len(started), memory)
        groups = in_sequence(started) if sequential else [started]
        begin = time.monotonic()
        stopping = (EqualRounds(limits.rounds, limits.budget / len(groups), lambda: share_of_deadline(
            deadline, begin, len(groups))) if sequential else Stopping(limits.rounds, limits.budget, narrow))
        try:
            for done, group in enumerate(groups):
                contest.group = group
                if deadline is not None:
                    now = time.monotonic()
                    contest.share_ends = now + (deadline - now) / (len(groups) - done)
                measure_group(contest, session, case, others, judge, memory if sequential else None, config, stopping)
                contest.close_group()
                if sequential and store:
                    store(options.out, *results_of(contest, case, conditions, options, judge, config))
        except KeyboardInterrupt:
            conditions["rounds"]["interrupted"] = True
            progress.note("interrupted: keeping what was measured")
        for entry in contest.entries:
            if entry.status != "ok":
                progress.note(f"{entry.name}: {entry.status}: {entry.reason}")
        conditions["during"] = sampler.summary()
        return results_of(contest, case, conditions, options, judge, config)


def measure_group(contest, session, case, others, judge, memory, config, stopping):
    """Everything that the arms of one group do; `memory` watches the device where one arm has it for itself."""
    limits, further = session.options.limits, session.options.further
    if memory:
        memory.start()
    try:
        session.load_group(contest, case)
        for entry in contest.running:
            if entry.weights["weights"] != case.dtype:
                entry.work = {name: value for name, value in entry.weights.items() if name != "weights_bytes"}
        if limits.warmup:
            contest.first_run()
        contest.pass_gate(judge)
        contest.warm_up(limits.warmup, case.device)
        contest.measure(stopping)
        contest.peak_memory()
    finally:
        peak_mib = memory.stop() if memory else None
    if peak_mib is not None:
        for entry in contest.running:
            entry.samples["device_memory"] = [peak_mib]
            entry.counted["device_memory"] = f"use of the whole device, by {memory.source}"
            entry.samples["beyond_weights"] = [
                peak_mib - entry.weights.get("weights_bytes", weights_bytes(config, case.dtype)) / 2**20]
    if case.device == "gpu":
        contest.measure_cold(limits.cold)
    contest.measure_new_lengths(session.new_lengths(case, limits.new_lengths, config))
    for other in others:
        contest.measure_case(other, session.prepare(other), further.case_rounds, limits.warmup,
                             further.case_arms or session.options.arms, further.case_budget)


def results_of(contest, case, conditions, options, judge, config):
    """(rows, accuracy) of what is there by now."""
    further = options.further
    rows = [row for entry in contest.entries
            for row in arm_rows(entry, case, conditions, further.case_rounds, config)]
    return rows, {
        "reference": judge.name, "dtype": case.dtype, "scale": judge.scale,
        "arms": {entry.name: entry.accuracy and {**entry.accuracy, "repeats": entry.repeats}
                 for entry in contest.entries},
        "agreement": {other.slug: {entry.name: entry.cases[other].agreement for entry in contest.entries
                                   if other in entry.cases} for other in further_cases(case, further)}}


def exit_status(rows):
    """0 when every arm that was not skipped or too large was measured and passed the gate; 130 interrupted; else 1."""
    if any(row.provenance["rounds"]["interrupted"] for row in rows):
        return 130
    failed = any(row.status == "failed" for row in rows)
    measured = any(row.samples for row in rows if row.stage == "end_to_end")
    return int(failed or not measured)
