"""Progress of a long copy: a bar on a terminal, one line per finished part elsewhere."""

import contextlib
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextlib.contextmanager
def progress(label, total_bytes):
    """Yield a function that takes the bytes done since its last call; ends with one line saying what was done."""
    begun = time.perf_counter()
    console = Console(file=sys.stderr)
    with contextlib.ExitStack() as stack:
        if console.is_terminal:
            bar = stack.enter_context(Progress(
                TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=False),
                TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True))
            task = bar.add_task(label, total=total_bytes)
            yield lambda count: bar.advance(task, count)
        else:
            yield lambda count: None
    seconds = time.perf_counter() - begun
    print(f"{label}: {total_bytes / 1e6:.0f} MB in {seconds:.1f} s", flush=True)
