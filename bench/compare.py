"""Two versions of this repository, measured beside each other on this machine: a verdict per stage."""

from dataclasses import replace
from pathlib import Path

from bench.arms import ARMS, fused
from bench.git import is_changed
from bench.plan import judged
from bench.provenance import WRITTEN_BY_RUNS
from bench.report import markdown_text
from bench.results import check_writable, folder_of
from bench.run import measured
from bench.schema import write_rows
from bench.verdict import interrupted, paired, run_line, verdict_table
from bench.versions import build, check_out, format_names, linked, operators
from core.errors import UserError
from core.files import atomic_file
from core.placement import Placement
from export.checkpoint import open_checkpoint
from infer.formats import AUTO, check_asked

BASE, HEAD = "base", "head"


def version_arms(versions, impl, device, weights=AUTO):
    """{arm: ArmSpec} of base and head, each run from its own tree with its own operators, and of all arms: the gate's
    reference is one of them."""
    arm = fused(weights) if impl == "fused" else ARMS[f"paddle-{impl}"]
    base, head = (replace(arm, name=name, source=name, root=str(version.tree),
                          environment=operators(version, device)) for name, version in zip((BASE, HEAD), versions))
    return {**ARMS, BASE: base, HEAD: head}


def compare(options, names, impl, build_folder, argv, console):
    """Build, measure, print and store; returns the exit status: 0, 2 where the conditions forbid a verdict.

    options: a RunOptions, whose arms become base and head; names: git references of base and head; impl:
    "fused" or "native"; build_folder: holds the versions' worktrees.

    UserError before anything is built when the checkpoint is none or a version is unknown or too old, and before
    anything is measured when one cannot be built.
    """
    check_writable(options.out)
    case, sources = options.case, options.sources
    config = open_checkpoint(sources.checkpoint).config
    check_asked(options.weights, config, case.dtype, Placement(case.device))
    versions = [check_out(name, build_folder) for name in names]
    for version in versions:
        if options.weights != AUTO and options.weights not in format_names(version):
            raise UserError(f"{version.name} ({version.sha[:12]}) has no WEIGHTS={options.weights}: choose a later "
                            "BASE=, or leave WEIGHTS= out")
    if names[1] == "HEAD" and is_changed(".", *WRITTEN_BY_RUNS, untracked=False):
        console.print("uncommitted changes are not in HEAD and are not measured")
    folders, python = dict(sources.folders), {name: sources.python[name] for name in ("paddle", "torch")}
    checkpoint = linked(sources.checkpoint, Path(build_folder) / "versions" / "checkpoints")
    for name, version in zip((BASE, HEAD), versions):
        console.print(f"building {version.name} ({version.sha[:12]})")
        folders[name] = str(build(version, checkpoint, case.dtype, case.device, impl, python,
                                  version.tree.with_suffix(".log")))
    options = judged(replace(options, arms=(BASE, HEAD), sources=replace(sources, folders=folders)))
    specs = version_arms(versions, impl, case.device, options.weights)
    compared = {version: {"ref": made.name, "sha": made.sha} for version, made in zip((BASE, HEAD), versions)}

    rows, _ = measured(options, argv, specs=specs, for_verdict=True)
    verdicts = paired(BASE, HEAD, rows)
    folder = folder_of(options.out, rows) / "compare"
    stem = f"{versions[0].sha[:12]}-{versions[1].sha[:12]}"
    write_rows(folder / f"{stem}.jsonl", (
        replace(row, provenance={**row.provenance, "compared": compared}) for row in rows))
    title = f"{versions[1].name} ({versions[1].sha[:12]}) against {versions[0].name} ({versions[0].sha[:12]})"
    text = "\n\n".join([markdown_text(title), markdown_text(run_line(rows)), verdict_table(verdicts)])
    with atomic_file(folder / f"{stem}.md", "w") as f:
        f.write(text + "\n")
    console.print(text, f"results: {folder / stem}.*", sep="\n", soft_wrap=True)
    if interrupted(rows):
        return 130
    reason = next((verdict.reason for verdict in verdicts if verdict.verdict == "invalid"), "")
    if reason:
        console.print(f"no verdict: {reason}", soft_wrap=True)
    return 2 if reason else 0
