"""Answers with boxes: parsed as the reference writes them, scaled as it does, malformed parts told and never fatal."""

import json

import pytest

from infer.grounding import MAX_REGIONS, Region, parse, to_dict
from infer.prompt import from_list_format


def test_every_golden_text_is_parsed(tokenizer_cases):
    found = {case["text"]: parse(case["text"]) for case in tokenizer_cases["cases"]
             if "</box>" in case["text"] or "</quad>" in case["text"]}
    assert len(found) == 7 and not any(problems for _, problems in found.values())
    labelled = found["<ref> 击掌</ref><box>(536,509),(588,602)</box>"][0]
    assert labelled == [Region("box", "击掌", ((536, 509), (588, 602)))]
    assert found["<quad>(1,2),(3,4),(5,6),(7,8)</quad>"][0] == [Region("quad", "", ((1, 2), (3, 4), (5, 6), (7, 8)))]
    two = found["<box>(0,0),(999,999)</box> and <box>(451,379),(731,806)</box>"][0]
    assert [region.points for region in two] == [((0, 0), (999, 999)), ((451, 379), (731, 806))]
    same = found["<ref>x</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>"][0]
    assert [region.label for region in same] == ["x", "x"]


def test_what_the_prompt_format_writes_comes_back():
    text = from_list_format([{"ref": "a dog", "box": [[1, 2, 3, 4], [5, 6, 7, 8]]},
                             {"ref": "狗", "quad": [[1, 2, 3, 4, 5, 6, 7, 8]]}])
    assert parse(text) == ([Region("box", "a dog", ((1, 2), (3, 4))), Region("box", "a dog", ((5, 6), (7, 8))),
                            Region("quad", "狗", ((1, 2), (3, 4), (5, 6), (7, 8)))], [])


def test_an_answer_in_sentences():
    text = ("Two <ref>dogs</ref><box>(1,2),(3,4)</box>, <box>( 5 , 6 ), (7,8)</box>; near <box>(9,9),(10,10)</box>"
            "<|endoftext|>")
    regions, problems = parse(text)
    assert [region.label for region in regions] == ["dogs", "dogs", ""] and problems == []


@pytest.mark.parametrize("size", [(1, 1), (512, 600), (1920, 1080), (4999, 7)])
def test_pixels_are_the_references(size):
    """The reference computes int(x / 1000 * w) in floating point, not x * w // 1000."""
    width, height = size
    for value in range(1001):
        region = Region("box", "", ((value, value), (value, value)))
        assert region.pixels(width, height)[0] == (int(value / 1000 * width), int(value / 1000 * height))


@pytest.mark.parametrize("text, words, kept", [
    ("<box>(1,2),(3,4)", "<box> at character 0 is not closed", 0),
    ("<box>(1,2),(3,4)</box> and <box>(5,", "<box> at character 27 is not closed", 1),
    ("(1,2)</box>", "</box> without <box> at character 5", 0),
    ("<ref>dog</ref>", "<ref> 'dog' has no box", 0),
    ("<ref>dog</ref> is far from <box>(1,2),(3,4)</box>", "<ref> 'dog' has no box", 1),
    ("<ref>dog</ref><ref>cat</ref><box>(1,2),(3,4)</box>", "<ref> 'dog' has no box", 1),
    ("<ref>dog<box>(1,2),(3,4)</box>", "<ref> at character 0 is not closed", 1),
    ("<box>(1,2)</ref><box>(1,2),(3,4)</box>", "<box> at character 0 is not closed", 1),
    ("<box></box>", "<box> holds '' instead of (x1,y1),(x2,y2)", 0),
    ("<box>(1,2),(3,4),(5,6)</box>", "instead of", 0),
    ("<box>(1,2),(3,-4)</box>", "instead of", 0),
    ("<box>(1.5,2),(3,4)</box>", "instead of", 0),
    ("<box>(1,2),(3,٤)</box>", "instead of", 0),
    ("<quad>(1,2),(3,4)</quad>", "instead of (x1,y1),(x2,y2),(x3,y3),(x4,y4)", 0),
    ("<box>(1,2),(3,1001)</box>", "lies outside the image", 0),
    ("<box>(" + "9" * 5000 + ",2),(3,4)</box>", "instead of", 0),
    ("<box>(3,2),(1,4)</box>", "in another order", 1),
    ("<box>\x1b[2J\n</box>", r"'\x1b[2J\n'", 0),
])
def test_malformed_parts(text, words, kept):
    regions, problems = parse(text)
    assert len(regions) == kept and len(problems) == 1 and words in problems[0]
    assert len(problems[0]) < 200 and problems[0].isprintable()


def test_nothing_to_find():
    assert parse("") == ([], []) and parse("A dog (1,2),(3,4) < box >") == ([], [])


def test_a_great_many():
    regions, problems = parse("<box>(1,2),(3,4)</box>" * (MAX_REGIONS + 5))
    assert len(regions) == MAX_REGIONS and "only the first" in problems[0]


def test_json_holds_everything():
    text = "<ref>狗</ref><box>(100,200),(300,400)</box><quad>(1,"
    content = json.loads(json.dumps(to_dict(text, *parse(text), "a.jpg", (500, 600))))
    assert content == {
        "image": "a.jpg", "width": 500, "height": 600, "answer": text,
        "problems": [f"<quad> at character {text.index('<quad>')} is not closed"],
        "regions": [{"kind": "box", "label": "狗", "points": [[100, 200], [300, 400]],
                     "pixels": [[50, 120], [150, 240]]}]}
