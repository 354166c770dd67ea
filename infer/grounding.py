"""Boxes and quadrilaterals in an answer: parsed, scaled to the image, as JSON."""

import re
from dataclasses import dataclass

SCALE = 1000         # coordinates are thousandths of the image's width and height
MAX_REGIONS = 1000   # far more than a context of answers holds; bounds the time that drawing takes
CORNERS = {"box": 2, "quad": 4}
TAG = re.compile(r"<(/?)(ref|box|quad)>")
PAIR = r"\(\s*([0-9]{1,5})\s*,\s*([0-9]{1,5})\s*\)"
POINTS = {kind: re.compile(r"\s*" + r"\s*,\s*".join([PAIR] * count) + r"\s*") for kind, count in CORNERS.items()}
BETWEEN = " \t\r\n,;"  # may stand between a label and its regions
SHOWN = 60           # characters of an answer that a problem quotes


@dataclass(frozen=True)
class Region:
    """A box (two opposite corners) or a quad (four corners), in thousandths of the image.

    label: the text of the `<ref>` that it belongs to, "" without one.
    """

    kind: str
    label: str
    points: tuple

    def pixels(self, width, height):
        """The corners in pixels of an image, scaled as the reference does: int(x / 1000 * width)."""
        return tuple((int(x / SCALE * width), int(y / SCALE * height)) for x, y in self.points)


def parse(text):
    """(regions, problems) of an answer that kept its special tokens.

    `<ref>label</ref>` names every `<box>(x1,y1),(x2,y2)</box>` and `<quad>(x1,y1),…,(x4,y4)</quad>` that follows it
    with no more than spaces, commas and semicolons between; others have no label. What is malformed is left out and
    described in `problems`, a list of texts; boxes whose corners are in another order are described and kept.
    """
    parser = _Parser()
    end, opened = 0, None
    for tag in TAG.finditer(text):
        closing, kind = tag[1] == "/", tag[2]
        if opened is None:
            if text[end:tag.start()].strip(BETWEEN):
                parser.forget_label()
            if closing:
                parser.problems.append(f"</{kind}> without <{kind}> at character {tag.start()}")
            else:
                opened = tag
        elif closing and kind == opened[2]:
            content, opened = text[opened.end():tag.start()], None
            if kind == "ref":
                parser.take_label(content)
            else:
                parser.take_region(kind, content)
        else:
            parser.not_closed(opened)
            opened = None if closing else tag
        end = tag.end()
    if opened is not None:
        parser.not_closed(opened)
    parser.forget_label()
    if len(parser.regions) > MAX_REGIONS:
        parser.problems.append(f"only the first {MAX_REGIONS} of {len(parser.regions)} regions are used")
    return parser.regions[:MAX_REGIONS], parser.problems


class _Parser:
    """What was found so far, and the label that the next region takes."""

    def __init__(self):
        self.regions, self.problems, self._label, self._used = [], [], "", True

    def take_label(self, content):
        self.forget_label()
        self._label, self._used = " ".join(content.split()), False

    def forget_label(self):
        if not self._used:
            self.problems.append(f"<ref> {_quoted(self._label)} has no box")
        self._label, self._used = "", True

    def not_closed(self, tag):
        self.forget_label()
        self.problems.append(f"<{tag[2]}> at character {tag.start()} is not closed")

    def take_region(self, kind, content):
        self._used = True
        match = POINTS[kind].fullmatch(content)
        if not match:
            shape = ",".join(f"(x{i},y{i})" for i in range(1, CORNERS[kind] + 1))
            self.problems.append(f"<{kind}> holds {_quoted(content)} instead of {shape}")
            return
        numbers = [int(digits) for digits in match.groups()]
        points = tuple(zip(numbers[::2], numbers[1::2]))
        if max(numbers) > SCALE:
            self.problems.append(f"<{kind}> {_quoted(content)} lies outside the image: coordinates end at {SCALE}")
            return
        if kind == "box" and (points[0][0] > points[1][0] or points[0][1] > points[1][1]):
            self.problems.append(f"<box> {_quoted(content)} has its corners in another order")
        self.regions.append(Region(kind, self._label, points))


def _quoted(text):
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def to_dict(answer, regions, problems, image, size):
    """What is written as JSON: the answer, its regions with corners in thousandths and in pixels, its problems.

    image: a text that names the picture; size: its (width, height).
    """
    return {"image": str(image), "width": size[0], "height": size[1], "answer": answer, "problems": list(problems),
            "regions": [{"kind": region.kind, "label": region.label, "points": [list(p) for p in region.points],
                         "pixels": [list(p) for p in region.pixels(*size)]} for region in regions]}
