"""Progress of a run: one live line on a terminal, plain lines elsewhere; always on stderr."""

import contextlib

from rich.console import Console


class Progress(contextlib.AbstractContextManager):
    def __init__(self, console=None):
        self.console = console or Console(stderr=True, markup=False, highlight=False)
        self.live = self.console.status("", spinner="line") if self.console.is_terminal else None  # in any encoding

    def __enter__(self):
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live:
            self.live.stop()

    def doing(self, text):
        """What happens now."""
        if self.live:
            self.live.update(text)
        else:
            self.note(text)

    def note(self, text):
        """A line that stays."""
        self.console.print(text, soft_wrap=True)
