"""The figures in README.md: blocks between markers, made from the stored rows and from nothing else."""

import re
from pathlib import Path
from urllib.parse import quote

from bench import published, reproduce
from bench.headline import framework, headline_arms, headline_frame, headline_rows, limits_frame, measured_line
from bench.lossy import losses_notes
from bench.plots import stage_figure
from bench.report import (
    busy_notes,
    case_line,
    conditions_line,
    has_enough_rounds,
    markdown_table,
    markdown_text,
    rounds_notes,
)
from bench.results import write_picture
from bench.schema import read_rows
from bench.sizes import has_sizes, sizes_frame
from core.errors import UserError

PICTURE = "headline.png"   # in the results folder
SWEEP_PICTURE = "sweep.png"   # of engines over batch and length, beside a run's results
NONE = "Not measured yet."
TOYS = ("tiny",)           # presets that try the pipeline: their times say nothing of a model
PUBLISHED_CASE = ("7b", "float16", "gpu", 1)   # preset, dtype, device, batch that the published figures are of


def newest(cases, device):
    """(folder, rows) of the newest run of a model on a device that has figures of enough rounds, None if there is
    none."""
    found = [(folder, rows) for folder, rows in cases if rows[0].case.device == device
             and rows[0].case.preset not in TOYS and has_enough_rounds(rows) and headline_arms(rows)]
    return max(found, key=lambda case: case[1][0].provenance.get("time") or "", default=None)


def headline(cases):
    """(folder, rows) of the run that the README begins with: the newest on a GPU, else on a CPU, else None."""
    return newest(cases, "gpu") or newest(cases, "cpu")


def reproduced(folder):
    """Rows of the reproduction stored beside a run, or None."""
    path = folder / reproduce.FILE
    return read_rows(path, "make it again with make reproduce") if path.is_file() else None


def _link(path, base):
    return quote(path.resolve().relative_to(Path(base).resolve()).as_posix(), errors="surrogateescape")


def run_block(folder, rows, base):
    """A run's table and, below, what it holds for and where the rest is."""
    link = _link(folder, base)
    lines = [f"{case_line(rows)}; {measured_line(rows)}.", "Times: median [min..p90] of n passes.",
             *rounds_notes(headline_rows(rows)), *busy_notes(rows)]
    links = [f"[All arms, stages and conditions]({link}/table.md)."]
    if (folder / SWEEP_PICTURE).is_file():
        links.append(f"[Engines over batch and length]({link}/{SWEEP_PICTURE}).")
    below = " ".join([markdown_text(" ".join(lines)), *links])
    return f"{markdown_table(headline_frame(rows), 'arm')}\n\n{below}"


def headline_block(cases, base, results):
    folder, rows = headline(cases)
    picture = f"![End to end, by stage]({_link(Path(results) / PICTURE, base)})"
    return f"{picture}\n\n{run_block(folder, rows, base)}"


def cpu_block(cases, base, _):
    run = newest(cases, "cpu")
    return run_block(*run, base) if run else NONE


def limits_block(cases, *_):
    _, rows = headline(cases)
    ours = {arm for arm in headline_arms(rows) if framework(arm) == "paddle"}
    frame = limits_frame([row for row in rows if row.arm in ours])
    return markdown_table(frame, "arm, stage") if len(frame) else "No limit was measured on this machine."


def published_block(cases, base, _):
    """The published figures, then those of the same protocol here, by machine; of other models a link alone."""
    remarks = "\n".join(f"* {markdown_text(line)}" for line in published.remarks())
    quoted = [markdown_table(published.table(), "publication"), remarks]
    parts, others = [], []
    for folder, _ in cases:
        rows = reproduced(folder)
        if not rows:
            continue
        link, case = f"{_link(folder, base)}/reproduce.md", rows[0].case
        if (case.preset, case.dtype, case.device, case.batch) == PUBLISHED_CASE:
            parts += [markdown_text(f"The same model and protocol on another card: {conditions_line(rows)}; "
                                    f"{measured_line(rows)}:"), markdown_table(reproduce.table(rows), "figure")]
        else:
            others.append(f"[{markdown_text(f'{folder.parent.name}, {case.preset}, {case.dtype}')}]({link})")
    if not parts:
        parts.append("The published protocol has not been run here on this model yet: "
                     "`make reproduce PRESET=7b DTYPE=float16 DEVICE=gpu`.")
    if others:
        parts.append(f"The protocol on other models, which no published figure may be set beside: {', '.join(others)}.")
    return "\n\n".join(quoted + parts)


def sizes_block(cases, base, _):
    """The newest run that has several formats of ours, one of which rounds."""
    found = [(folder, rows) for folder, rows in cases if has_sizes(rows)]
    if not found:
        return ("No run of several formats is stored yet: `make bench "
                "ARMS=torch-sdpa,paddle-fused,paddle-fused-int8,paddle-fused-int4`.")
    folder, rows = max(found, key=lambda case: case[1][0].provenance.get("time") or "")
    below = " ".join([f"{case_line(rows)}; {measured_line(rows)}.", *losses_notes(rows)])
    return (f"{markdown_table(sizes_frame(rows), 'arm')}\n\n{markdown_text(below)} "
            f"[All arms, stages and conditions]({_link(folder, base)}/table.md).")


BLOCKS = {"headline": headline_block, "cpu": cpu_block, "sizes": sizes_block, "limits": limits_block,
          "published": published_block}


def filled(text, cases, base, results, name="README.md"):
    """`text` with every block between its two markers made anew; `base` is the folder that links start from.

    UserError unless each block's markers are there once.
    """
    for block, make in BLOCKS.items():
        begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
        parts = re.split(f"({begin}|{end})", text)
        if parts[1::2] != [begin, end]:
            raise UserError(f"{name} needs one line {begin} and, after it, one line {end}: the figures go between them")
        text = f"{parts[0]}{begin}\n{make(cases, base, results)}\n{end}{parts[4]}"
    return text


def write_headline_picture(cases, results):
    """Draw the README's picture; returns its path."""
    write_picture(path := Path(results) / PICTURE, stage_figure(headline_rows(headline(cases)[1])))
    return path
