"""Two versions of this repository, measured beside each other on this machine: a verdict per stage."""

from dataclasses import replace
from pathlib import Path

from bench.arms import ARMS
from bench.git import is_changed
from bench.provenance import WRITTEN_BY_RUNS
from bench.report import conditions_line, markdown_text
from bench.results import check_writable, folder_of
from bench.run import measured
from bench.schema import write_rows
from bench.statistics import location_half_width
from bench.stopping import CHECK_EVERY, NARROW
from bench.verdict import (
    PARTS,
    STAGES,
    decided,
    interrupted,
    invalid,
    paired,
    paired_logs,
    samples_of,
    verdict_table,
    why_invalid,
)
from bench.versions import build, check_out, linked, operators
from core.files import atomic_file
from core.text import plural
from export.checkpoint import open_checkpoint

BASE, HEAD, AGAIN = "base", "head", "base-again"
BUDGET = 600      # seconds of rounds: what a change of 5 % needs at the noise of docs/statistics.md
ROUNDS = 2000


def is_narrow(arm, differences_of, width=NARROW):
    """Looks every CHECK_EVERY rounds of an arm's {stage: samples}: whether the interval of each part's paired log ratio
    is narrow, differences_of(stage)."""
    return not len(arm["end_to_end"]) % CHECK_EVERY and all(
        location_half_width(differences_of(stage)) <= width for stage in PARTS if arm[stage])


def narrow_pair(entries):
    """The stopping rule of a comparison: looks every CHECK_EVERY rounds at head against the mean of both bases."""
    arms = {entry.name: entry.samples for entry in entries}
    if set(arms) != {BASE, HEAD, AGAIN}:
        return True  # one has dropped out: there is nothing to wait for

    def differences_of(stage):
        base, head, again = paired_logs(*(arms[name][stage] for name in (BASE, HEAD, AGAIN)))
        return head - (base + again) / 2
    return is_narrow(arms[HEAD], differences_of)


def judge_pair(rows):
    """Verdicts on head against base from one run's rows, stage by stage."""
    arms = samples_of(rows)
    verdicts = [paired(stage, *(arms[name].get(stage, []) for name in (BASE, HEAD, AGAIN))) for stage in STAGES
                if any(stages.get(stage) for stages in arms.values()) or stage == "end_to_end"]
    reason = why_invalid(rows)
    return invalid(verdicts, reason) if reason else verdicts


def version_arms(versions, impl, device):
    """{arm: ArmSpec} of base, head and base again, each run from its own tree with its own operators."""
    base, head = (replace(ARMS[f"paddle-{impl}"], name=name, source=name, root=str(version.tree),
                          environment=operators(version, device)) for name, version in zip((BASE, HEAD), versions))
    # in half precision the gate's reference is one of ARMS
    return {**ARMS, BASE: base, HEAD: head, AGAIN: replace(base, name=AGAIN)}


def compare(options, names, impl, build_folder, argv, console):
    """Build, measure, print and store; returns the exit status: 0, 2 where the conditions forbid a verdict.

    options: a RunOptions, whose arms become base, head and base again; names: git references of base and head; impl:
    "fused" or "native"; build_folder: holds the versions' worktrees.

    UserError before anything is built when the checkpoint is none or a version is unknown or too old, and before
    anything is measured when one cannot be built.
    """
    check_writable(options.out)
    case, sources = options.case, options.sources
    open_checkpoint(sources.checkpoint)
    versions = [check_out(name, build_folder) for name in names]
    if names[1] == "HEAD" and is_changed(".", *WRITTEN_BY_RUNS, untracked=False):
        console.print("uncommitted changes are not in HEAD and are not measured")
    folders, python = dict(sources.folders), {name: sources.python[name] for name in ("paddle", "torch")}
    checkpoint = linked(sources.checkpoint, Path(build_folder) / "versions" / "checkpoints")
    for name, version in zip((BASE, HEAD), versions):
        console.print(f"building {version.name} ({version.sha[:12]})")
        folders[name] = str(build(version, checkpoint, case.dtype, case.device, impl, python,
                                  version.tree.with_suffix(".log")))
    options = replace(options, arms=(BASE, HEAD, AGAIN), sources=replace(sources, folders=folders))
    specs = version_arms(versions, impl, case.device)
    compared = {version: {"ref": made.name, "sha": made.sha} for version, made in zip((BASE, HEAD), versions)}

    def measure():
        return measured(options, argv, specs=specs, narrow=narrow_pair)[0]

    verdicts, runs = decided(measure, judge_pair)
    rows = runs[0]
    folder = folder_of(options.out, rows) / "compare"
    stem = f"{versions[0].sha[:12]}-{versions[1].sha[:12]}"
    write_rows(folder / f"{stem}.jsonl", (
        replace(row, provenance={**row.provenance, "compared": {**compared, "run": number}})
        for number, run in enumerate(runs, 1) for row in run))
    title = f"{versions[1].name} ({versions[1].sha[:12]}) against {versions[0].name} ({versions[0].sha[:12]})"
    text = "\n\n".join([markdown_text(title), markdown_text(conditions_line(rows)), verdict_table(verdicts),
                        stopped_line(runs)])
    with atomic_file(folder / f"{stem}.md", "w") as f:
        f.write(text + "\n")
    console.print(text, f"results: {folder / stem}.*", sep="\n", soft_wrap=True)
    if any(map(interrupted, runs)):
        return 130
    reason = next((verdict.reason for verdict in verdicts if verdict.verdict == "invalid"), "")
    if reason:
        console.print(f"no verdict: {reason}", soft_wrap=True)
    return 2 if reason else 0


def stopped_line(runs):
    """Why the rounds of each run ended."""
    rounds_of_runs = [rows[0].provenance["rounds"] for rows in runs]
    return "; ".join(f"{'re-run' if i else 'run'}: {plural(rounds['done'], 'round')}, ended by {rounds['stopped']}"
                     for i, rounds in enumerate(rounds_of_runs))
