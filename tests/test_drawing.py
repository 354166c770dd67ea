"""Pictures of an answer's regions: where the lines run, that labels can be read, and what is written."""

import json
import subprocess
import sys

import numpy as np
import pytest
from checkpoint_files import REPOSITORY
from PIL import Image, ImageDraw

from core.errors import UserError
from infer import drawing
from infer.drawing import COLORS, DARK, LIGHT, draw, in_words, lacking, load_font, save
from infer.grounding import Region, parse

GRAY = (128, 128, 128)


def box(x1, y1, x2, y2, label=""):
    return Region("box", label, ((x1, y1), (x2, y2)))


def blank(size, color=GRAY):
    return Image.new("RGB", size, color)


def colored(picture, color):
    """Rows and columns of the pixels of a colour."""
    return np.argwhere((np.asarray(picture) == color).all(-1))


def test_the_image_itself_stays_as_it_is():
    image = blank((300, 200))
    assert draw(image, [box(1, 1, 900, 900, "a")]).size == (300, 200)
    assert np.unique(np.asarray(image)).tolist() == [128]


def test_lines_run_along_the_box():
    pixels = colored(draw(blank((400, 200)), [box(250, 250, 750, 750)]), COLORS[0])
    (top, left), (bottom, right) = pixels.min(0), pixels.max(0)
    assert [abs(int(a) - b) <= 1 for a, b in zip((top, left, bottom, right), (50, 100, 150, 300))] == [True] * 4
    inside = (pixels > (55, 105)) & (pixels < (145, 295))
    assert not inside.all(1).any()


def test_lines_run_along_the_quad():
    picture = draw(blank((1000, 1000)), [Region("quad", "", ((500, 100), (900, 500), (500, 900), (100, 500)))])
    for x, y in ((500, 100), (700, 300), (900, 500), (700, 700), (300, 300)):
        assert picture.getpixel((x, y)) == COLORS[0]
    assert picture.getpixel((500, 500)) == GRAY


@pytest.mark.parametrize("color", [*COLORS, DARK, LIGHT])
def test_lines_and_labels_show_on_any_colour(color):
    """Between a line or a label's background and the picture there is always a difference that can be seen."""
    picture = draw(blank((400, 400), color), [box(250, 500, 750, 750, "label")])
    across = {picture.getpixel((100 + i, 250)) for i in range(-6, 7)}
    assert len(across) > 1 and (DARK in across or COLORS[0] in across)
    assert len(colored(picture, DARK if COLORS[0] != DARK else LIGHT)) > 50


@pytest.mark.parametrize("color", COLORS)
def test_text_has_contrast_to_its_background(color):
    def luminance(c):
        return sum(w * (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4)
                   for w, v in zip((0.2126, 0.7152, 0.0722), c))

    light, dark = sorted((luminance(color), luminance(drawing._readable_on(color))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # level AA of WCAG


def test_a_label_has_one_colour_and_others_another():
    picture = draw(blank((600, 600)), [box(0, 100, 200, 300, "a"), box(300, 100, 500, 300, "b"),
                                       box(600, 100, 800, 300, "a"), box(0, 600, 200, 800), box(300, 600, 500, 800)])
    places = [(x, y) for x, y in ((60, 180), (240, 180), (420, 180), (60, 480), (240, 480))]
    assert [picture.getpixel(place) for place in places] == [COLORS[i] for i in (0, 1, 0, 2, 3)]


@pytest.mark.parametrize("corner", [(0, 0), (950, 0), (0, 950), (950, 950), (500, 0)])
def test_labels_stay_inside_the_picture(monkeypatch, corner):
    """Every drawn rectangle lies inside, and the text inside its rectangle."""
    rectangles, texts = [], []
    plain = ImageDraw.ImageDraw.rectangle, ImageDraw.ImageDraw.text

    def rectangle(self, box, **options):
        rectangles.append(box)
        plain[0](self, box, **options)

    def text(self, place, text, **options):
        texts.append(self.textbbox(place, text, font=options["font"]))
        plain[1](self, place, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", rectangle)
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    x, y = corner
    draw(blank((320, 240)), [box(x, y, x + 50, y + 50, "a label of some width")])
    (left, top, right, bottom), = rectangles
    assert 0 <= left < right < 320 and 0 <= top < bottom < 240
    (x1, y1, x2, y2), = texts
    assert left <= x1 and top <= y1 and x2 <= right + 1 and y2 <= bottom + 1


def test_labels_keep_off_each_other():
    taken = []
    canvas = ImageDraw.Draw(blank((600, 600)))
    corners = [(100, 300), (300, 300), (300, 500), (100, 500)]
    for label in ("one", "two", "three"):
        drawing._write(canvas, (600, 600), label, corners, COLORS[0], load_font(14), 2, taken)
    assert len(taken) == 3
    assert all(not drawing._overlap(a, b) for i, a in enumerate(taken) for b in taken[:i])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (400, 1), (1, 400), (30, 20)])
def test_tiny_pictures(size):
    picture = draw(blank(size), [box(0, 0, 1000, 1000, "label"), box(1000, 1000, 1000, 1000, "end")])
    assert picture.size == size


def test_long_labels_are_cut():
    picture = draw(blank((200, 200)), [box(0, 500, 1000, 1000, "word " * 10_000)])
    assert len(colored(picture, COLORS[0])) > 100


def test_larger_pictures_get_thicker_lines():
    def thickness(size):
        row = np.asarray(draw(blank((size, size)), [box(250, 250, 750, 750)]))[size // 2, :size // 2]
        return (row == COLORS[0]).all(-1).sum()

    assert 1 <= thickness(100) <= thickness(400) < thickness(2000) <= 12


def test_glyphs_that_the_font_lacks_are_drawn_as_boxes_and_told(tmp_path):
    assert lacking(["dog", "naïve Hündchen ёж"]) == [] and lacking(["击掌", "a掌"]) == ["击", "掌"]
    paths, count, problems = save(tmp_path, "<ref>击掌</ref><box>(100,200),(300,400)</box>", blank((300, 300)), "a.jpg")
    assert count == 1 and "lacks '击掌'" in problems[0] and "give a font" in problems[0]
    assert json.loads(paths[1].read_text())["regions"][0]["label"] == "击掌"


def test_another_font(tmp_path):
    other = drawing._default_font().with_name("DejaVuSans-Bold.ttf")
    regions = [box(100, 500, 900, 900, "label")]
    assert draw(blank((300, 300)), regions, other).tobytes() != draw(blank((300, 300)), regions).tobytes()
    (tmp_path / "no.ttf").write_bytes(b"not a font")
    for path in (tmp_path / "no.ttf", tmp_path / "none.ttf", tmp_path):
        with pytest.raises(UserError, match="give a TrueType file"):
            save(tmp_path / "out", "<ref>击</ref><box>(1,2),(3,4)</box>", blank((30, 30)), "a.jpg", path)
    assert not (tmp_path / "out").exists()


def test_what_is_written(tmp_path):
    image, answer = blank((300, 200)), "<ref>a</ref><box>(100,500),(900,900)</box><box>(1,"
    paths, count, problems = save(tmp_path / "out", answer, image, "/photos/my dog.v2.jpg")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert [path.suffix for path in paths] == [".png", ".json"] and paths[0].name.startswith("my_dog.v2-")
    with Image.open(paths[0]) as picture:
        assert picture.format == "PNG" and picture.tobytes() == draw(image, parse(answer)[0]).tobytes()
    content = json.loads(paths[1].read_text())
    assert content["image"] == "/photos/my dog.v2.jpg" and content["problems"] == problems and len(problems) == 1
    assert count == len(content["regions"]) == 1
    assert in_words(paths, count, problems) == [f"1 region drawn: {paths[0]}, {paths[1]}", f"note: {problems[0]}"]


def test_an_answer_without_regions_writes_nothing(tmp_path):
    assert save(tmp_path / "out", "A dog.", blank((30, 20)), "a.jpg") == ([], 0, [])
    nothing = save(tmp_path / "out", "<box>(1,", blank((30, 20)), "a.jpg")
    assert nothing[:2] == ([], 0) and len(nothing[2]) == 1 and in_words(*nothing) == [f"note: {nothing[2][0]}"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["https://images.test/a.png?x=../../b", "../..", "/", "", ".hidden", "a\nb\x1b.png",
                                    "ä" * 300, "\udcff.jpg"])
def test_names_stay_inside_the_folder(tmp_path, source):
    paths, _, _ = save(tmp_path / "out", "<box>(1,2),(3,4)</box>\udcff", blank((30, 20)), source)
    assert all(path.parent == tmp_path / "out" and path.is_file() for path in paths)
    assert not any(path.name.startswith(".") for path in paths)


def test_runs_at_the_same_time_leave_whole_files(tmp_path):
    code = ("import sys\nfrom PIL import Image\nfrom infer.drawing import save\n"
            "for i in range(20):\n"
            "    save(sys.argv[1], '<box>(1,2),(300,400)</box>', Image.new('RGB', (300, 200)), 'a')")
    runs = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=REPOSITORY) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    picture, = tmp_path.glob("*.png")
    content, = tmp_path.glob("*.json")
    assert Image.open(picture).size == (300, 200) and len(json.loads(content.read_text())["regions"]) == 1
    assert len(list(tmp_path.iterdir())) == 2
