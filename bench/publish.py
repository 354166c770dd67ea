"""All that is published from stored rows: reproduce.md, the history, the HTML page, README.md and its picture."""

from pathlib import Path

from bench import history, reproduce
from bench.curves import curve_figure
from bench.git import ROOT
from bench.html import page
from bench.readme import SWEEP_PICTURE, filled, headline, reproduced, write_headline_picture
from bench.report import has_enough_rounds, rounds_made
from bench.results import ROWS, write_picture
from bench.schema import read_rows
from bench.stopping import ROUNDS_AT_LEAST
from bench.sweep import frame
from core.files import atomic_file
from core.text import plural

RESULTS, README = ROOT / "results", ROOT / "README.md"
PAGE = "report.html"
SWEEP = "sweep.jsonl"   # rows of engines over batch and length, see docs/file_formats.md


def cases_of(results_dir):
    """[(folder, rows)] of every case below a results folder, in the order of their paths."""
    return [(path.parent, read_rows(path)) for path in sorted(Path(results_dir).rglob(ROWS))]


def publish(results_dir, readme=None):
    """Write the HTML page and pictures into a results folder, and README.md if that is the repository's own.

    `readme` is another file to write the figures into. README.md has only runs with enough rounds. Yields the paths
    written, and a line for each run that README.md has not.
    """
    results_dir, series = Path(results_dir), {}
    cases = cases_of(results_dir)
    if (results_dir / history.FILE).is_file():
        yield from history.write_history(results_dir)[1]
        series, _ = history.read(results_dir)
    for path in sorted(results_dir.rglob(SWEEP)):
        write_picture(picture := path.with_name(SWEEP_PICTURE), curve_figure(frame(read_rows(path))))
        yield picture
    for folder, _ in cases:
        if rows := reproduced(folder):
            with atomic_file(folder / "reproduce.md", "w") as f:
                f.write(reproduce.markdown(rows))
    with atomic_file(results_dir / PAGE, "w") as f:
        f.write(page(cases, series))
    yield results_dir / PAGE
    if readme is None and results_dir.resolve() == RESULTS:
        readme = README
    if not readme:
        return
    readme = Path(readme)
    for folder, rows in cases:
        if not has_enough_rounds(rows):
            done = plural(max(rounds_made(rows).values(), default=0), "round")
            yield (f"not in {readme.name}: {folder} has {done}, {ROUNDS_AT_LEAST} are needed: measure it again "
                   "with a larger BUDGET= or ROUNDS=")
    if headline(cases):
        text = filled(readme.read_text(encoding="utf-8"), cases, readme.parent, results_dir, readme.name)
        yield write_headline_picture(cases, results_dir)
        with atomic_file(readme, "w") as f:
            f.write(text)
        yield readme
