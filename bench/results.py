"""The folder of results: results/<machine>/<case>/ with rows, tables, plots, exports, machine and accuracy."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from bench import history
from bench.cases import cases_frame, cases_markdown, has_cases, length_figure, throughput_figure
from bench.exports import to_action_benchmark, to_bencher, to_frame
from bench.hosts import spreads
from bench.plots import limit_figure, speed_up_figure, stage_figure
from bench.provenance import machine_name
from bench.report import device_name, markdown, of_first_case, summary_frame
from bench.schema import read_rows, write_rows
from core.errors import UserError
from core.files import atomic_file
from core.text import escaped_texts

MACHINE_FIELDS = ("platform", "cpu", "cores", "threads", "memory_mib")
MACHINE_OPTIONAL = ("governor", "gpu", "ceilings")   # rows of schema 1 have no governor and no GPU facts
FREE_BYTES = 64 << 20    # that a run's results may need


def check_writable(out):
    """Raise UserError now, not after the measuring, when nothing can be written into `out` (made if need be)."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as f:
            f.write(b"\0" * 4096)
            f.flush()
            os.fsync(f.fileno())
        free = shutil.disk_usage(out).free
    except OSError as e:
        raise UserError(f"cannot write to {out} ({e.strerror}): set OUT= to a folder that you can write to") from None
    if free < FREE_BYTES:
        raise UserError(f"{out} has {free >> 20} MiB left, results need up to {FREE_BYTES >> 20}: make room or set "
                        "OUT= to another disk")


def _write_json(path, value):
    with atomic_file(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def folder_of(out, rows):
    """The folder of the rows' machine and case."""
    return Path(out) / machine_name(rows[0].provenance, device_name(rows)) / rows[0].case.slug


def store_rows(out, rows, accuracy):
    """Write everything of a run that is no report; returns its folder."""
    conditions, folder = rows[0].provenance, folder_of(out, rows)
    write_rows(folder / "rows.jsonl", rows)
    _write_json(folder / "machine.json", {**{name: conditions[name] for name in MACHINE_FIELDS},
                                          **{name: conditions.get(name) for name in MACHINE_OPTIONAL},
                                          "device": device_name(rows)})
    _write_json(folder / "accuracy.json", escaped_texts(accuracy))
    return folder


def write_report(folder, rows):
    """Tables and plots of one run, from its rows alone."""
    first = of_first_case(rows)
    figures = {"stages.png": stage_figure(first), "speedup.png": speed_up_figure(first),
               "limits.png": limit_figure(first)}
    with atomic_file(folder / "rows.csv", "w") as f:
        to_frame(rows).to_csv(f, index=False)
    _write_json(folder / "github-action-benchmark.json", to_action_benchmark(rows))
    _write_json(folder / "bencher.json", escaped_texts(to_bencher(rows)))
    with atomic_file(folder / "table.csv", "w") as f:
        summary_frame(first).to_csv(f)
    with atomic_file(folder / "table.md", "w") as f:
        f.write(markdown(first, spreads(folder.parents[1], first)))
    if has_cases(rows):
        with atomic_file(folder / "cases.csv", "w") as f:
            cases_frame(rows).to_csv(f, index=False)
        with atomic_file(folder / "cases.md", "w") as f:
            f.write(cases_markdown(rows))
        figures |= {"lengths.png": length_figure(rows), "batches.png": throughput_figure(rows)}
    for name, figure in figures.items():
        if figure is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with atomic_file(folder / name) as f:
            figure.savefig(f, format="png", dpi=150)


def write_results(out, rows, accuracy):
    """Rows and report of one run, and its lines of the history; returns the folder."""
    folder = store_rows(out, rows, accuracy)
    history.append(out, rows)
    write_report(folder, rows)
    return folder


def report(results_dir):
    """Make the tables and plots of every case below a folder again; yields (folder, rows). UserError if none."""
    paths = sorted(Path(results_dir).rglob("rows.jsonl"))
    if not paths:
        raise UserError(f"no rows.jsonl below {results_dir}: run the benchmark first, or name its OUT= folder")
    for path in paths:
        rows = read_rows(path)
        write_report(path.parent, rows)
        yield path.parent, rows
