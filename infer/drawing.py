"""Draws an answer's regions with their labels on the image, and writes the picture and its JSON."""

import importlib.util
import json
import re
from pathlib import Path

import xxhash
from PIL import ImageDraw, ImageFont

from core.errors import UserError
from core.files import atomic_file
from core.text import escaped
from infer import grounding

# Distinguishable for most colour-blind people: Okabe and Ito, https://jfly.uni-koeln.de/color/ (without black)
COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
DARK, LIGHT = (0, 0, 0), (255, 255, 255)
LINE_SHARE, TEXT_SHARE = 200, 28  # of the shorter side: one of so many parts
MIN_TEXT = 11   # pixels; smaller is hard to read
MAX_LABEL = 80  # characters
MAX_FONT_BYTES = 64 << 20


def draw(image, regions, font=None):
    """A copy of an RGB image with `regions` (grounding.Region) drawn on it.

    Each label has a colour of its own. Lines have dark edges, labels a filled background, so that both show on any
    picture; labels stay inside the picture and off each other while there is room. Characters that
    the font lacks come out as empty boxes. font: path of a TrueType file, default DejaVu Sans.
    """
    picture = image.copy()
    canvas = ImageDraw.Draw(picture)
    side = min(picture.size)
    width = max(1, round(side / LINE_SHARE))
    text_font = load_font(max(MIN_TEXT, round(side / TEXT_SHARE)), font)
    colors, labels, taken = {}, [], []
    for number, region in enumerate(regions):
        color = colors.setdefault(region.label or number, COLORS[len(colors) % len(COLORS)])
        corners = _outline(region, picture.size)
        for edge, thickness in ((DARK, width + 2), (color, width)):
            canvas.line([*corners, *corners[:2]], fill=edge, width=thickness, joint="curve")
        if region.label:
            labels.append((region.label, corners, color))
    for label, corners, color in labels:
        _write(canvas, picture.size, label, corners, color, text_font, width, taken)
    return picture


def _outline(region, size):
    """The corners in order around the region, inside the picture."""
    points = region.pixels(*size)
    if region.kind == "box":
        (x1, y1), (x2, y2) = points
        points = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    return [(min(x, size[0] - 1), min(y, size[1] - 1)) for x, y in points]


def _write(canvas, size, label, corners, color, font, line, taken):
    """Write a label above its region, else inside or below it: where it covers the least of other labels."""
    text, pad = _fitted(canvas, label, font, size[0]), line + 1
    if not text:
        return
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x1, y1 = (min(values) for values in zip(*corners))
    y2 = max(y for _, y in corners)
    x = max(0, min(x1, size[0] - width))
    places = [(x, max(0, min(y, size[1] - height))) for y in (y1 - height - line, y1 + line, y2 + line, y2 - height)]
    x, y = min(places, key=lambda place: sum(_overlap((*place, width, height), other) for other in taken))
    taken.append((x, y, width, height))
    canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=color, outline=DARK)
    canvas.text((x + pad - left, y + pad - top), text, font=font, fill=_readable_on(color))


def _fitted(canvas, label, font, room):
    """The label, printable and cut so that it is at most `room` pixels wide; "" when nothing fits."""
    label = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in label)
    text = label[:MAX_LABEL]
    for length in range(len(text), 0, -1):
        cut = text[:length] if length == len(label) else text[:length].rstrip() + "…"
        if canvas.textlength(cut, font=font) + 8 <= room:
            return cut
    return ""


def _overlap(a, b):
    """Pixels that two rectangles (x, y, width, height) share."""
    return (max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
            * max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])))


def _readable_on(color):
    """Black or white, whichever has the higher contrast: relative luminance of WCAG 2.1."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else LIGHT


def load_font(size, path=None):
    """A font of `size` pixels from a TrueType file, default DejaVu Sans of the matplotlib package."""
    path = Path(path) if path else _default_font()
    if not path.is_file() or path.stat().st_size > MAX_FONT_BYTES:
        raise UserError(f"{path} is no font file: give a TrueType file of at most {MAX_FONT_BYTES >> 20} MiB")
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except (OSError, ValueError) as e:
        raise UserError(f"{path} cannot be read as a font ({e}): give a TrueType file") from None


def _default_font():
    spec = importlib.util.find_spec("matplotlib")
    for folder in spec.submodule_search_locations if spec else ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return path
    raise UserError("the fonts of the matplotlib package are not installed: run make setup, or give another font")


def lacking(labels, path=None):
    """Characters of `labels` that the font has no glyph for, in order of appearance; none for a font without a map."""
    from fontTools.ttLib import TTFont  # only here: an answer without labels needs none of it

    try:
        with TTFont(path or _default_font(), fontNumber=0, lazy=True) as font:
            known = font.getBestCmap() or {}
    except Exception:  # FreeType draws with fonts that fontTools fails on in any way
        return []
    return [c for c in dict.fromkeys("".join(labels)) if c.isprintable() and ord(c) not in known]


def save(out, answer, image, source, font=None):
    """Write an answer's regions to folder `out`: NAME.png, the image with them drawn on it, and NAME.json.

    answer: text with its special tokens; image: RGB PIL image; source: the path or address that it came from. NAME
    is made of the source's name and a hash of answer and source, so runs at the same time do not mix their files.
    Returns (paths, number of regions, problems); without regions paths is empty and nothing is written.
    """
    answer, source = answer.encode(errors="replace").decode(), escaped(source)
    regions, problems = grounding.parse(answer)
    if not regions:
        return [], 0, problems
    picture = draw(image, regions, font)
    if missing := lacking([region.label for region in regions], font):
        problems.append(f"the font lacks {''.join(missing[:20])!r}, which show as empty boxes: "
                        "give a font that has them")
    key = xxhash.xxh3_64(f"{source}\0{answer}\0{font}".encode(errors="replace")).hexdigest()[:8]
    stem = re.sub(r"[^\w.-]+", "_", Path(source).stem)[:40].lstrip(".") or "image"
    content = grounding.to_dict(answer, regions, problems, source, image.size)
    paths = [Path(out) / f"{stem}-{key}.{kind}" for kind in ("png", "json")]
    with atomic_file(paths[0]) as file:
        picture.save(file, format="PNG")
    with atomic_file(paths[1], "w") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
    return paths, len(regions), problems


def in_words(paths, regions, problems):
    """Lines that say what `save` did: the files with the number of regions, then each problem."""
    written = [f"{regions} region{'s' * (regions != 1)} drawn: {', '.join(map(str, paths))}"] if paths else []
    return written + [f"note: {problem}" for problem in problems]
