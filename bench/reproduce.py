"""The published comparison beside this machine's, by the published protocol and by this benchmark's.

The published figures stand in README.md of deploy/qwen_vl in PaddlePaddle/PaddleMIX, in a version whose commands pass
--qwen_vl_config_path. run_static_predict.py beside it, in the versions that take that option, makes WARM_UP passes
that are not counted and PASSES that are, each from the image to the text with 32 KV caches made anew by paddle.rand,
and divides their time by their number. A later version (commit b80fa0e7, option --benchmark) makes 20 passes, adds up
the last LATER_PASSES and divides by LATER_DIVISOR. The script of the PyTorch side is in neither.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench import published
from bench.arms import ARMS
from bench.conditions import Sampler
from bench.process import Worker, WorkerFailed
from bench.progress import Progress
from bench.provenance import without_paths
from bench.report import (
    busy_notes,
    by_arm,
    conditions_line,
    during_text,
    markdown_table,
    markdown_text,
    of_first_case,
    provenance_markdown,
)
from bench.results import check_writable, folder_of
from bench.run import run
from bench.schema import Row, write_rows
from bench.session import Session, read_inputs, watched_gpu
from bench.statistics import ratio_interval, summary
from core.errors import UserError
from core.files import atomic_file
from core.ranks import VOCABULARY

PAIR = ("torch-eager", "paddle-fused")
WARM_UP, PASSES = 2, 10
LATER_PASSES, LATER_DIVISOR = 9, 10
FLAWS = (
    "The 32 KV caches of the Paddle side were made anew in every call and filled with random numbers, which no "
    "program that serves requests does.",
    "Fetching the image (its address is a URL, which the processor requests anew in every pass), preparing it, reading "
    "the new tokens from one file a step and turning them into text were inside the loop: the network and the disk are "
    "in the figures. Here the image is a local file and tokens are read from memory.",
    "The script that times the Paddle side divides ten passes by ten in the version that fits the README of the "
    "figures, but a later version adds up nine passes and divides by ten. Which one made the figures is not stated: "
    f"if it was the later one, the passes took {float(published.PAIR.torch_ms) * LATER_DIVISOR / LATER_PASSES:.0f} and "
    f"{float(published.PAIR.paddle_ms) * LATER_DIVISOR / LATER_PASSES:.0f} ms. The ratio does not change.",
    "One mean without a spread, the two sides one after the other; neither the PyTorch side's script nor the number of "
    "new tokens, clocks, driver or versions are stated.")
FILE = "reproduce.jsonl"
INTERRUPTED = "interrupted before its passes were done"


def later_ms(ms):
    """The figure that the later version of the script gives for the counted passes."""
    return sum(ms[-LATER_PASSES:]) / LATER_DIVISOR


def published_rows(options, rows):
    """A row of stage "published" per arm: one after the other, as published; only arms that passed the gate run."""
    checkpoint, image, ids = read_inputs(options)
    case, passes, interrupted = rows[0].case, [], rows[0].provenance["rounds"]["interrupted"]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, Progress() as progress:
        session = Session(options, ARMS, image, ids, scratch)
        for arm, stages in by_arm(of_first_case(rows)).items():
            end_to_end, samples = stages["end_to_end"], []
            status, reason, conditions = end_to_end.status, end_to_end.reason, end_to_end.provenance
            if status == "ok" and interrupted:
                status, reason = "skipped", INTERRUPTED
            if status == "ok":
                progress.doing(f"{arm}: published protocol")
                try:
                    with Sampler(watched_gpu(options)) as sampler:
                        samples = _passes(session, options, checkpoint.config, arm, case)
                    conditions = {**conditions, "during": sampler.summary()}
                except WorkerFailed as e:
                    status, reason = e.status, str(e)
                except KeyboardInterrupt:
                    status, reason, interrupted = "skipped", INTERRUPTED, True
            passes.append(Row(arm, "published", status, without_paths(reason), samples, case, conditions))
    return passes


def _passes(session, options, config, arm, case):
    spec = session.specs[arm]
    python, environment = session.start(spec.framework)
    with Worker(spec.target, python, session.scratch / f"{arm}.log", environment) as worker:
        worker.call("load", **session.load(spec))
        worker.call("prepare", **session.prepare(case))
        vocabulary = str((Path(options.sources.checkpoint) / VOCABULARY).resolve())
        passes = worker.call("published", image=str(Path(options.case.photograph).resolve()), vocabulary=vocabulary,
                             image_start_id=config.image_start_id, passes=WARM_UP + PASSES)["ms"]
    return passes[WARM_UP:]


def table(rows):
    """Frame of texts: a line per protocol, columns for the two arms and their ratio, all of this machine."""
    arms = by_arm(of_first_case(rows))
    samples = {stage: [arms[arm][stage].samples if arm in arms and arms[arm][stage].status == "ok" else []
                       for arm in PAIR] for stage in ("published", "end_to_end")}
    lines = {}
    for name, stage, figure in (
            ("published protocol: mean of the passes", "published", np.mean),
            (f"the same, by the later script: sum of {LATER_PASSES} / {LATER_DIVISOR}", "published", later_ms),
            ("this benchmark: median end to end", "end_to_end", lambda ms: summary(ms)["median"])):
        values = [float(figure(ms)) if ms else None for ms in samples[stage]]
        ratio = f"{values[0] / values[1]:.3f}x" if None not in values else "-"
        interval = ratio_interval(*samples[stage]) if stage == "end_to_end" and ratio != "-" else None
        if interval and interval[1] is not None:
            ratio += f" [{interval[1]:.3f}..{interval[2]:.3f}]"
        lines[name] = [*("-" if value is None else f"{value:.2f}" for value in values), ratio]
    return pd.DataFrame.from_dict(lines, orient="index", columns=[f"{PAIR[0]} (ms)", f"{PAIR[1]} (ms)", "ratio"])


def markdown(rows):
    """The comparison with its source, its flaws and this machine's conditions."""
    reasons = [f"{row.arm}, {row.stage}: {row.status}: {row.reason}" for row in of_first_case(rows)
               if row.stage in ("published", "end_to_end") and row.status != "ok"]
    return "\n\n".join([
        "# The published comparison and this machine's", "Published, quoted:",
        markdown_table(published.table(), "publication"),
        "\n".join(f"* {line}" for line in published.remarks()),
        markdown_text(f"Here: {conditions_line(rows)}. Another machine, and unless the preset is 7b another size of "
                      "model: set ratios beside the published ones, not times. Brackets: 95 % bootstrap interval."),
        markdown_table(table(rows), "figure"), *map(markdown_text, reasons),
        "What is wrong in how the published figures were timed, as far as the versions of the example's script tell "
        "(deploy/qwen_vl/run_static_predict.py, paddlemix/processors/qwen_vl_processing.py):",
        "\n".join(f"* {flaw}" for flaw in FLAWS), *provenance_markdown(rows),
        *map(markdown_text, [*published_notes(rows), *busy_notes(rows)])]) + "\n"


def published_notes(rows):
    """What the machine did during the published protocol's passes, a line per arm; they run apart from the others."""
    return [f"While {row.arm} ran the published protocol: {during_text(row.provenance['during'])}."
            for row in rows if row.stage == "published" and row.samples and "during" in row.provenance]


def reproduce(options, argv):
    """Measure both protocols; returns (folder, rows, Markdown). Writes reproduce.jsonl and reproduce.md there.

    Raises UserError before anything is measured.
    """
    if not Path(exported := options.sources.folders["exported_fused"]).is_dir():
        raise UserError(f"{exported} does not exist: run `make export` first")
    options = replace(options, arms=PAIR)
    check_writable(options.out)
    with tempfile.TemporaryDirectory(prefix="bench-") as aside:  # the full comparison's rows stay where they are
        _, rows = run(replace(options, out=aside), argv)
    rows = [*of_first_case(rows), *published_rows(options, rows)]
    folder = folder_of(options.out, rows)
    write_rows(folder / FILE, rows)
    text = markdown(rows)
    with atomic_file(folder / "reproduce.md", "w") as f:
        f.write(text)
    return folder, rows, text
