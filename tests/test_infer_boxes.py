"""`python -m infer --out`: the boxes of an answer on its image, with an answer that is given instead of generated."""

import json
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from core.errors import UserError
from core.placement import Placement
from infer import __main__ as cli
from infer.model import Answer

BOX = "<ref>a dog</ref><box>(100,200),(300,400)</box>"


@pytest.fixture
def infer(exported_tiny, tmp_path, monkeypatch, capsys):
    """Run the command line with a text that the model answers; returns the lines that it printed after it."""
    engine = SimpleNamespace(load_seconds=0.0, impl="fused", dtype="float32", weights="float32",
                             placement=Placement("cpu"))
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (300, 200), color).save(tmp_path / f"{name}.png")

    def run(text, *arguments):
        monkeypatch.setattr(cli.QwenVL, "load", lambda self: engine)
        monkeypatch.setattr(cli.QwenVL, "answer", lambda *_: Answer(text, [1], "stop", 9, 0, {"TTFT": 1.0}))
        monkeypatch.setattr(sys, "argv", ["infer", "--exported", str(exported_tiny), *map(str, arguments)])
        cli.main()
        return capsys.readouterr().out.partition("TTFT 1.0 ms\n")[2].splitlines()
    return run


def test_boxes_are_drawn_on_the_last_image(infer, tmp_path):
    out = tmp_path / "out"
    (line,) = infer(BOX, "--prompt", "What?", "--image", tmp_path / "a.png", tmp_path / "b.png", "--out", out)
    picture, = out.glob("b-*.png")
    assert line == f"1 region drawn: {picture}, {picture.with_suffix('.json')}"
    with Image.open(picture) as image:
        assert image.size == (300, 200) and image.getpixel((290, 190)) == (0, 0, 255)
    content = json.loads(picture.with_suffix(".json").read_text())
    assert content["answer"] == BOX and content["regions"][0]["pixels"] == [[30, 40], [90, 80]]


def test_an_image_named_in_the_prompt(infer, tmp_path):
    infer(BOX, "--prompt", f"<img>{tmp_path / 'a.png'}</img>What?", "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("a-*"))) == 2


def test_what_is_malformed_is_told(infer, tmp_path):
    image = ["--image", tmp_path / "a.png", "--out", tmp_path / "out"]
    assert infer("<box>(1,", "--prompt", "What?", *image) == ["note: <box> at character 0 is not closed"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("answer, arguments", [("A dog.", ["--image", "a.png", "--out", "out"]),
                                               (BOX, ["--out", "out"]), (BOX, ["--image", "a.png"])])
def test_nothing_is_written_without_boxes_image_or_folder(infer, tmp_path, monkeypatch, answer, arguments):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert infer(answer, "--prompt", "What?", *arguments) == [] and sorted(tmp_path.iterdir()) == before


def test_a_font_that_cannot_be_read_is_refused_before_the_graphs_are_loaded(infer, tmp_path, capsys):
    with pytest.raises(UserError, match="give a TrueType file"):
        infer(BOX, "--prompt", "What?", "--image", tmp_path / "a.png", "--out", tmp_path, "--font", tmp_path / "a.png")
    assert "loaded" not in capsys.readouterr().out
