"""What is published from the stored rows: one self-contained HTML page, and the figures in README.md."""

import base64
import html
import json
from pathlib import Path
from urllib.parse import quote

from bench import history, reproduce
from bench.provenance import ROOT
from bench.report import (
    again_markdown,
    conditions_line,
    display_frame,
    has_enough_rounds,
    markdown_table,
    markdown_text,
    notes,
    of_first_case,
    provenance_notes,
    repro_of,
    rounds_made,
)
from bench.schema import read_rows
from bench.stopping import ROUNDS_AT_LEAST
from core.errors import UserError
from core.files import atomic_file
from core.text import plural, shell_line

RESULTS, README = ROOT / "results", ROOT / "README.md"
PAGE = "report.html"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURES = {"stages.png": "Where the time goes", "speedup.png": "Speed-up",
            "limits.png": "Share of the device's limits", "lengths.png": "Latency against output length",
            "batches.png": "Throughput against batch", "history.png": "History"}
README_LINES = ("status", "vision (ms)", "prefill (ms)", "TTFT (ms)", "decode / token (ms)", "end to end (ms)",
                "decode / token, share of limit", "peak memory (MiB)", "memory beyond the weights", "speed-up vs")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
table { display: block; overflow-x: auto; }
th, td { border: 1px solid #bbb; padding: .25rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption, .conditions { color: #444; font-size: .9rem; }
pre { background: #f3f3f3; padding: .5rem; overflow-x: auto; white-space: pre-wrap; }
@media print { figure, table { break-inside: avoid; } }
"""


def cases_of(results_dir):
    """[(folder, rows)] of every case below a results folder, in the order of their paths."""
    return [(path.parent, read_rows(path)) for path in sorted(Path(results_dir).rglob("rows.jsonl"))]


def _table(frame, corner=""):
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in [corner, *frame.columns])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(text))}</td>" for text in [name, *line]) + "</tr>\n"
                   for name, line in zip(frame.index, frame.itertuples(index=False), strict=True))
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"


def _picture(path, title):
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(f"{title}: {path.parent.name} on {path.parent.parent.name}")
    return (f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(title)}</figcaption></figure>")


def _text(lines, kind="conditions"):
    return "".join(f'<p class="{kind}">{html.escape(line)}</p>\n' for line in lines)


def _reproduced(folder):
    """Rows of a stored reproduction, or None."""
    path = folder / reproduce.FILE
    return read_rows(path, "make it again with make reproduce") if path.is_file() else None


def _json_text(path):
    """A JSON file laid out to be read; UserError for one that holds something else."""
    try:
        return json.dumps(json.loads(path.read_bytes()), indent=1)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is damaged ({e}): git checkout HEAD -- {shell_line([str(path)])} brings a stored one "
                        "back, else delete it") from None


def _provenance(rows):
    return [*provenance_notes(rows), f"Measure it again: {repro_of(rows)}"]


def _case_section(folder, rows):
    first = of_first_case(rows)
    parts = [f"<h2>{html.escape(folder.parent.name)}: {html.escape(folder.name)}</h2>", _text([conditions_line(rows)]),
             _table(display_frame(first)), _text([*notes(first), *_provenance(first)])]
    parts += [_picture(folder / name, title) for name, title in PICTURES.items() if (folder / name).is_file()]
    accuracy = folder / "accuracy.json"
    if accuracy.is_file():
        parts.append("<details><summary>The gate's differences and limits</summary>"
                     f"<pre>{html.escape(_json_text(accuracy))}</pre></details>")
    reproduced = _reproduced(folder)
    if reproduced:
        parts += ["<h3>The published comparison and this machine's</h3>", _table(reproduce.table(reproduced), "figure"),
                  _text([f"Source of the first line: {reproduce.SOURCE}.", conditions_line(reproduced),
                         *reproduce.FLAWS, *_provenance(reproduced), *reproduce.published_notes(reproduced)])]
    return "\n".join(parts)


def page(cases):
    """The whole report as one HTML text: styles and pictures are in it."""
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Qwen-VL benchmark</title><style>{STYLE}</style></head><body>",
        "<h1>Qwen-VL: Paddle static graphs beside PyTorch</h1>",
        *(_case_section(folder, rows) for folder, rows in cases), "</body></html>\n"])


def readme_block(cases, base):
    """Markdown of README's figures; `base` is the folder that its links start from."""
    parts = []
    for folder, rows in cases:
        first, name = of_first_case(rows), markdown_text(f"{folder.parent.name}/{folder.name}")
        frame = display_frame(first)
        frame = frame[[name.startswith(README_LINES) for name in frame.index]]
        link = quote(folder.resolve().relative_to(Path(base).resolve()).as_posix(), errors="surrogateescape")
        parts += [markdown_text(f"{conditions_line(rows)}:"), markdown_table(frame), *map(markdown_text, notes(first)),
                  again_markdown(first),
                  f"![Speed-up of every arm end to end]({link}/speedup.png)",
                  f"All stages and the conditions: [{name}]({link}/table.md)."]
        reproduced = _reproduced(folder)
        if reproduced:
            parts += ["The published comparison, quoted, and the same protocol on this machine, in a run of its own:",
                      markdown_table(reproduce.table(reproduced), "figure"),
                      f"Conditions, source and what is wrong in the published timing: [reproduce.md]({link}/reproduce"
                      ".md)."]
    return "\n\n".join(parts)


def with_block(text, block, name="README.md"):
    """`text` with everything between its two markers replaced; UserError without exactly one pair of them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise UserError(f"{name} needs one line {BEGIN} and, after it, one line {END}: the figures go between them")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def publish(results_dir, readme=None):
    """Write the HTML page into a results folder, and README.md if that is the repository's own.

    `readme` is another file to write the figures into. README.md has only the runs with enough rounds. Yields the paths
    written, and a line for each run that README.md has not.
    """
    results_dir = Path(results_dir)
    cases = cases_of(results_dir)
    if (results_dir / history.FILE).is_file():
        yield from history.write_history(results_dir)[1]
    for folder, _ in cases:
        reproduced = _reproduced(folder)
        if reproduced:
            with atomic_file(folder / "reproduce.md", "w") as f:
                f.write(reproduce.markdown(reproduced))
    with atomic_file(results_dir / PAGE, "w") as f:
        f.write(page(cases))
    yield results_dir / PAGE
    if readme is None and results_dir.resolve() == RESULTS:
        readme = README
    if not readme:
        return
    enough = [(folder, rows) for folder, rows in cases if has_enough_rounds(rows)]
    for folder, rows in cases:
        if not has_enough_rounds(rows):
            done = plural(max(rounds_made(rows).values(), default=0), "round")
            yield (f"not in {Path(readme).name}: {folder} has {done}, {ROUNDS_AT_LEAST} are needed: measure it again "
                   "with a larger BUDGET= or ROUNDS=")
    if enough:
        text = Path(readme).read_text(encoding="utf-8")
        with atomic_file(readme, "w") as f:
            f.write(with_block(text, readme_block(enough, Path(readme).parent), Path(readme).name))
        yield Path(readme)
