"""What a check found."""

GB = 1e9


class Findings:
    """What was found, in order: (kind, text) with kind "ok", "note", "problem" or "next"."""

    def __init__(self):
        self.lines = []

    def ok(self, text):
        self.lines.append(("ok", text))

    def note(self, text):
        self.lines.append(("note", text))

    def problem(self, text):
        self.lines.append(("problem", " ".join(text.split())))

    def next(self, text):
        self.lines.append(("next", text))

    @property
    def problems(self):
        return [text for kind, text in self.lines if kind == "problem"]
