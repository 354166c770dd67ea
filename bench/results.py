"""The folder of results: results/<machine>/<case>/ with rows, tables, plots, exports, machine and accuracy."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from bench import history
from bench.cases import cases_frame, cases_markdown, has_cases
from bench.curves import curve_figure
from bench.exports import to_action_benchmark, to_bencher, to_frame
from bench.hosts import spreads
from bench.plots import DPI, limit_figure, stage_figure
from bench.provenance import machine_name
from bench.report import device_name, markdown, of_first_case, summary_frame
from bench.schema import read_rows, write_rows
from bench.sweep import frame
from core.errors import UserError
from core.files import atomic_file
from core.text import escaped_texts

ROWS = "rows.jsonl"
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


def has_figures(rows):
    return any(row.stage == "end_to_end" and row.status == "ok" for row in rows)


def check_replaces(folder, rows):
    """Raise UserError where rows without any figure would take the place of a run that has some."""
    stored = folder / ROWS
    if not has_figures(rows) and stored.is_file() and has_figures(read_rows(stored)):
        reasons = "; ".join(dict.fromkeys(f"{row.arm}: {row.reason}" for row in rows if row.reason))
        raise UserError(f"nothing was measured, {folder} stays as it was: {reasons}")


def store_rows(out, rows, accuracy):
    """Write everything of a run that is no report; returns its folder."""
    conditions, folder = rows[0].provenance, folder_of(out, rows)
    write_rows(folder / ROWS, rows)
    _write_json(folder / "machine.json", {**{name: conditions[name] for name in MACHINE_FIELDS},
                                          **{name: conditions.get(name) for name in MACHINE_OPTIONAL},
                                          "device": device_name(rows)})
    _write_json(folder / "accuracy.json", escaped_texts(accuracy))
    return folder


def write_report(folder, rows):
    """Tables and plots of one run, from its rows alone."""
    first = of_first_case(rows)
    figures = {"stages.png": stage_figure(first), "limits.png": limit_figure(first),
               "cases.png": curve_figure(frame(rows)) if has_cases(rows) else None}
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
    for name, figure in figures.items():
        write_picture(folder / name, figure)


def write_picture(path, figure):
    """Write a figure as PNG; of None a picture that was there before goes."""
    if figure is None:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as f:
        figure.savefig(f, format="png", dpi=DPI)


def write_results(out, rows, accuracy):
    """Rows and report of one run, and its lines of the history; returns the folder. UserError: see check_replaces."""
    check_replaces(folder_of(out, rows), rows)
    folder = store_rows(out, rows, accuracy)
    history.append(out, rows)
    write_report(folder, rows)
    return folder


def report(results_dir):
    """Make the tables and plots of every case below a folder again; yields (folder, rows). UserError if none."""
    paths = sorted(Path(results_dir).rglob(ROWS))
    if not paths:
        raise UserError(f"no {ROWS} below {results_dir}: run the benchmark first, or name its OUT= folder")
    for path in paths:
        rows = read_rows(path)
        write_report(path.parent, rows)
        yield path.parent, rows
