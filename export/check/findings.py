"""What a check found."""

from core.text import escaped, one_line

GB = 1e9


class Findings:
    """What was found, in order: (kind, one printable line) with kind "ok", "note", "problem" or "next"."""

    def __init__(self):
        self.lines = []

    def ok(self, text):
        self.lines.append(("ok", one_line(text)))

    def note(self, text):
        self.lines.append(("note", one_line(text)))

    def problem(self, text):
        self.lines.append(("problem", one_line(text)))

    def next(self, text):
        self.lines.append(("next", escaped(text)))

    @property
    def problems(self):
        return [text for kind, text in self.lines if kind == "problem"]
