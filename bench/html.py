"""All stored runs as one self-contained HTML page: a summary first, then a section per run, its conditions folded."""

import base64
import html
import json

import pandas as pd

from bench import published, reproduce
from bench.headline import day_of, headline_arms, headline_frame, limits_frame, measured_line, median
from bench.lossy import apart
from bench.provenance import machine_name
from bench.readme import reproduced
from bench.report import (
    LABELS,
    conditions_line,
    device_name,
    display_frame,
    lossy_frame,
    notes,
    of_first_case,
    provenance_notes,
    repro_of,
)
from core.errors import UserError
from core.text import shell_line

PICTURES = {"stages.png": "Where the time goes", "limits.png": "Share of the device's limits",
            "cases.png": "Over batch and length", "sweep.png": "Engines over batch and length",
            "history.png": "History"}
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; color: #111; }
h1 { line-height: 1.2; }
h2 { margin-top: 3rem; padding-top: .5rem; border-top: 2px solid #ccc; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: right; }
td { white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
.linked td:first-child { white-space: normal; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; }
figure { margin: 1.5rem 0; } img { width: 100%; max-width: 46rem; height: auto; } a { color: #0058a0; }
figcaption, .note { color: #444; font-size: .9rem; overflow-wrap: anywhere; }
details { margin: 1rem 0; padding: .3rem .8rem; background: #f5f5f5; } summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; white-space: pre-wrap; font-size: .85rem; }
@media (max-width: 40rem) {
  table { font-size: .8rem; } th, td { padding: .3rem; } .linked td:first-child { min-width: 7rem; }
}
@media print { figure, tr { break-inside: avoid; } }
"""


def _table(frame, corner="", links=()):
    """A frame of texts; `links` are addresses for its first column."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in [corner, *frame.columns])
    body = []
    for i, (name, line) in enumerate(zip(frame.index, frame.itertuples(index=False), strict=True)):
        first, *others = (html.escape(str(text)) for text in [name, *line])
        if links:
            first = f'<a href="{html.escape(links[i])}">{first}</a>'
        body.append("<tr>" + "".join(f"<td>{text}</td>" for text in [first, *others]) + "</tr>")
    lines = "\n".join(body)
    linked = ' class="linked"' if links else ""
    return (f'<div class="table"><table{linked}>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{lines}\n</tbody></table></div>")


def _picture(path, title):
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(f"{title}: {path.parent.name} on {path.parent.parent.name}")
    return (f'<figure><figcaption>{html.escape(title)}</figcaption>'
            f'<img alt="{alt}" src="data:image/png;base64,{data}"></figure>')


def _text(lines):
    return "".join(f'<p class="note">{html.escape(line)}</p>\n' for line in lines)


def _folded(title, inner):
    return f"<details><summary>{html.escape(title)}</summary>\n{inner}</details>"


def _json_text(path):
    """A JSON file laid out to be read; UserError for one that holds something else."""
    try:
        return json.dumps(json.loads(path.read_bytes()), indent=1)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is damaged ({e}): git checkout HEAD -- {shell_line([str(path)])} brings a stored one "
                        "back, else delete it") from None


def _provenance(rows):
    return _text([*provenance_notes(rows), f"Measure it again: {repro_of(rows)}"])


def _before(rows, arm, series):
    """The line in the history of the same machine, case and arm that is the last before this run; None for none."""
    key = machine_name(rows[0].provenance, device_name(rows)), rows[0].case.slug, arm, "end_to_end"
    return next((line for found, lines in series.items()
                 if (found.machine, found.case, found.arm, found.stage) == key
                 for line in reversed(lines) if line["date"] < (rows[0].provenance.get("time") or "")), None)


def summary_frame(cases, series):
    """(frame, folders): a line per run and arm of its headline, and the folder that each line is of."""
    lines, index, folders = [], [], []
    for folder, rows in cases:
        for arm, stages in headline_arms(rows).items():
            ms, before = median(stages, "end_to_end"), _before(rows, arm, series)
            index.append(f"{folder.parent.name}, {folder.name}")
            folders.append(folder)
            lines.append({"arm": arm, f"{LABELS['end_to_end']} (ms)": "-" if ms is None else f"{ms:.1f}",
                          "change": f"{100 * (ms / before['median'] - 1):+.1f} %" if ms and before else "-",
                          "since": before["date"][:10] if ms and before else "first run", "measured": day_of(rows)})
    return pd.DataFrame(lines, index=index), folders


def _address(folder):
    return f"{folder.parent.name}/{folder.name}"


def _case_section(folder, rows):
    first, limits = of_first_case(rows), limits_frame(rows)
    title = f"{folder.parent.name}: {folder.name}"
    parts = [f'<h2 id="{html.escape(_address(folder))}">{html.escape(title)}</h2>',
             _text([f"{conditions_line(rows)}; {measured_line(rows)}."]), _table(headline_frame(rows), "arm")]
    parts += [_picture(folder / name, title) for name, title in PICTURES.items() if (folder / name).is_file()]
    exact, lossy = apart(first)
    parts.append(_folded("All arms and stages", (_table(display_frame(exact)) if exact else "") + _text(notes(first))))
    if lossy:
        parts.append(_folded("Arms whose weights are not the checkpoint's any more", _table(lossy_frame(lossy))))
    if len(limits):
        parts.append(_folded("Limits, by arm and stage", _table(limits, "arm, stage")))
    parts.append(_folded("Conditions", _provenance(first)))
    accuracy = folder / "accuracy.json"
    if accuracy.is_file():
        parts.append(_folded("The gate's differences and limits", f"<pre>{html.escape(_json_text(accuracy))}</pre>"))
    if passes := reproduced(folder):
        parts.append(_folded("The published protocol on this machine", "".join([
            _text([conditions_line(passes)]), _table(reproduce.table(passes), "figure"), _text(reproduce.FLAWS),
            _provenance(passes), _text(reproduce.published_notes(passes))])))
    return "\n".join(parts)


def page(cases, series):
    """The whole report as one HTML text: styles and pictures are in it. `series`: of the history, see bench.history."""
    frame, folders = summary_frame(cases, series)
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Qwen-VL benchmark</title><style>{STYLE}</style></head><body>",
        "<h1>Qwen-VL: Paddle static graphs beside PyTorch</h1>",
        _table(frame, "machine, case", [f"#{_address(folder)}" for folder in folders]),
        _text(["Of every run the fastest arm of each framework and number of bits: its median, and how that differs "
               "from the run before of the same machine and case. Two runs differ by chance as well: whether a stage "
               "became slower is for make regress and make compare to say."]),
        "<h2>Published, quoted</h2>", _table(published.table(), "publication"), _text(published.remarks()),
        *(_case_section(folder, rows) for folder, rows in cases), "</body></html>\n"])
