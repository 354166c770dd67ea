"""One run: check what was asked, let the arms contest, store the rows, tables and plots."""

import tempfile
import time
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path

from bench import card, provenance
from bench.arms import ARMS, GATE_ARM
from bench.conditions import Sampler
from bench.contest import Contest
from bench.device_memory import DeviceMemory
from bench.plan import PLANS
from bench.progress import Progress
from bench.results import check_writable, has_figures, store_rows, write_results
from bench.schema import CASE_STAGES, DEVICE_STAGES, OPTIONAL, OTHERS, STAGES, Case, Row
from bench.session import Session, missing_source, read_inputs, watched_gpu
from bench.stopping import ROUNDS_AT_LEAST, EqualRounds, Stopping, is_warm
from bench.work import weights_bytes, work
from core.placement import Placement
from infer.formats import check_asked

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


def case_of(options, ids):
    """The Case of a run with these prompt tokens."""
    case = options.case
    preset = provenance.preset_name(case.preset or Path(options.sources.checkpoint).resolve().name)
    return Case(preset, case.dtype, case.device, case.batch, len(ids), case.new_tokens)


def yardstick_rows(entry, case, conditions):
    """What was measured of the device itself, as rows."""
    return [Row(entry.name, stage, entry.status, provenance.without_paths(entry.reason), entry.samples.get(stage, []),
                case, {**conditions, "versions": entry.versions, "rounds": {**conditions["rounds"], "done": 0}},
                launches=entry.launches.get(stage, []))
            for stage in (*DEVICE_STAGES, OTHERS)]


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
            rows.append(Row(entry.name, stage, status, reason, samples, row_case, stored, entry.counted.get(stage, ""),
                            result.launches.get(stage, [])))
    return rows


def longest(moments):
    """The longest time between two of these moments, one after the other; 0 where there is one."""
    return max((after - before for before, after in pairwise(moments)), default=0.0)


def room_for(config, dtype, arms, memory):
    """How many launches of so many arms a GPU has room for at once; None where it does not tell, or there is none."""
    if memory is None or memory.total is None:
        return None
    return int(MEMORY_SHARE * memory.total * 2**20 / (arms * weights_bytes(config, dtype)))


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
    def store(out, rows, accuracy):
        if has_figures(rows):   # else there is nothing to leave yet, and arms are to come
            store_rows(out, rows, accuracy)

    rows, accuracy = measured(options, argv, progress, specs, memory, store=store)
    return write_results(options.out, rows, accuracy), rows


def measured(options, argv, progress=None, specs=ARMS, memory=None, store=None, for_verdict=False, quiet=None):
    """Measure; returns (rows, accuracy). Raises UserError before anything is started or written.

    A gate that fails, a worker that dies or a full memory is a row; so is an arm without weights. `memory` is a
    DeviceMemory, `store` is called with (out, rows, accuracy) after every group of arms where there are several. For a
    verdict all rounds are made, however well the medians are known, and the gate has a reference of its own. With
    `quiet`, a bench.yardstick.Quiet, the device itself is timed around every round.
    """
    case_options, sources, limits = options.case, options.sources, options.limits
    deadline = time.monotonic() + limits.deadline if limits.deadline else None
    checkpoint, image, ids = read_inputs(options)
    config = checkpoint.config
    check_asked(options.weights, config, case_options.dtype, Placement(case_options.device))
    check_writable(options.out)
    case = case_of(options, ids)
    others = further_cases(case, options.further)
    exported = [path for name, path in sources.folders.items() if name != "checkpoint" and path
                and Path(path).is_dir()]
    gpu = watched_gpu(options)
    conditions = provenance.collect(argv, sources.cpu_threads,
                                    provenance.checkpoint_identity(checkpoint, exported), case_options.photograph,
                                    gpu)
    launches = limits.launches or PLANS[case.device].launches
    conditions["rounds"] = {"asked": limits.rounds, "budget_s": limits.budget, "interrupted": False}
    conditions["launched"] = []
    if memory is None and case.device == "gpu":
        memory = DeviceMemory(environment=card.seen_by(sources.environment.values()))
    with (tempfile.TemporaryDirectory(prefix="bench-") as scratch, progress or Progress() as progress,
          Sampler(gpu, paused=True) as sampler,
          Contest(options.arms, scratch, progress, deadline, sampler) as contest):
        session = Session(options, specs, image, ids, scratch, deadline)
        for entry in contest.entries:
            entry.lossy = specs[entry.name].lossy
        if case.device == "gpu":
            conditions["ceilings"] = session.ceilings(progress, case, config)
        contest.quiet, judge = quiet, session.judge(progress, case, for_verdict)
        able = sum(missing_source(specs[arm], options) is None for arm in options.arms)
        room = room_for(config, case.dtype, able, memory)
        sequential = conditions["sequential"] = limits.sequential or room == 0   # else arms hold their weights together
        # Loading is most of a launch's time on a GPU; on a CPU it would take cores from the launch that is measured.
        together = conditions["loaded_together"] = room if for_verdict and room and not sequential else 1
        session.spawn(contest, contest.entries, min(together, launches))
        started = [entry for entry in contest.entries if entry.worker]
        groups = in_sequence(started) if sequential else [started]
        begin, parts = time.monotonic(), launches * len(groups)
        # In sequence an arm is loaded for itself, which takes longer than its rounds: each launch has enough of them.
        # A launch that would not end by the deadline is not begun, so the first one may take all of the time.
        stopping = (EqualRounds(limits.rounds, limits.budget / parts,
                                lambda: share_of_deadline(deadline, begin, len(groups)))
                    if sequential else
                    Stopping(limits.rounds, limits.budget / launches,
                             limits.rounds if for_verdict else -(-ROUNDS_AT_LEAST // launches)))
        try:
            for launch in range(launches):
                now = time.monotonic()
                late = deadline and now + longest([*conditions["launched"], now - begin]) > deadline
                if launch and (late or all(entry.status != "ok" for entry in started)):
                    break
                conditions["launched"].append(round(now - begin, 1))
                for done, group in enumerate(groups[::-1] if launch % 2 else groups):
                    contest.group = group[::-1] if launch % 2 else group
                    if deadline is not None:
                        now = time.monotonic()
                        contest.share_ends = now + (deadline - now) / (parts - done)
                    begins = quiet and not contest.yardstick.worker
                    if begins:
                        session.start_yardstick(contest)
                    if ended := [entry for entry in group if entry.status == "ok" and not entry.worker]:
                        session.spawn(contest, ended, min(together, launches - launch))
                    if begins:
                        session.prepare_yardstick(contest, case, config)
                    measure_group(contest, session, case, others, judge, memory if sequential else None, config,
                                  stopping, first=not launch)
                    contest.end_launch()
                    if sequential and store:
                        store(options.out, *results_of(contest, case, conditions, options, judge, config))
        except KeyboardInterrupt:
            conditions["rounds"]["interrupted"] = True
            contest.end_launch()
            progress.note("interrupted: keeping what was measured")
        for entry in contest.entries:
            if entry.status != "ok":
                progress.note(f"{entry.name}: {entry.status}: {entry.reason}")
        conditions["during"] = sampler.summary()
        return results_of(contest, case, conditions, options, judge, config)


def measure_group(contest, session, case, others, judge, memory, config, stopping, first):
    """Everything that the arms of one group do in one launch; `memory` watches the device where one arm has it for
    itself. What is beside the gated case's rounds belongs to the `first` launch."""
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
            entry.add({"device_memory": [peak_mib]})
            entry.counted["device_memory"] = f"use of the whole device, by {memory.source}"
            entry.add({"beyond_weights": [
                peak_mib - entry.weights.get("weights_bytes", weights_bytes(config, case.dtype)) / 2**20]})
    if not first:
        return
    contest.tell_cost()
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
    if any(contest.yardstick.samples.values()) or contest.yardstick.reason:
        rows += yardstick_rows(contest.yardstick, case, conditions)
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
