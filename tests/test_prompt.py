"""Prompt formats against the reference's cases, and the search for image spans."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from infer import prompt

CASES = json.loads((Path(__file__).parent / "data" / "tokenizer_cases.json").read_text(encoding="utf-8"))
LISTS = [case for case in CASES["cases"] if "list_format" in case]


@pytest.mark.parametrize("case", LISTS, ids=range(len(LISTS)))
def test_from_list_format(case):
    label = prompt.LABEL if "older releases" in case["kind"] else prompt.CHAT_LABEL
    assert prompt.from_list_format(case["list_format"], label) == case["text"]


def test_from_list_format_refuses_an_unknown_part():
    with pytest.raises(UserError, match="sound"):
        prompt.from_list_format([{"sound": "x.wav"}])


@pytest.mark.parametrize("case", CASES["to_list_format"], ids=range(len(CASES["to_list_format"])))
def test_to_list_format(case):
    assert prompt.to_list_format(case["text"]) == case["list_format"]


@pytest.mark.parametrize("text", ["<ref>open", "a<box>", "</ref>x"])
def test_to_list_format_keeps_open_tags_as_text(text):
    assert prompt.to_list_format(text) == [{"text": text}]


@pytest.mark.parametrize("text, parts", [
    (r"a \<img> tag", [{"text": r"a \<img> tag"}]),
    (r"\<img><img>a.jpg</img>\</img>", [{"text": r"\<img>"}, {"image": "a.jpg"}, {"text": r"\</img>"}]),
    (r"<ref>the \</ref> tag</ref>", [{"ref": r"the \</ref> tag"}])])
def test_to_list_format_takes_a_tag_after_a_backslash_as_text(text, parts):
    assert prompt.to_list_format(text) == parts


@pytest.mark.parametrize("text", [r"What does \<img> mean?", r"\<img>a.jpg\</img>", r"\<|im_end|>", r"\<ref>\<img>"])
def test_a_tag_after_a_backslash_is_encoded_as_text(byte_tokenizer, text):
    plain = text.replace("\\", "")
    assert byte_tokenizer.encode(text) == byte_tokenizer.encode(plain, special=())
    assert prompt.images_of(text, ["a.jpg"]) == ["a.jpg"]


def test_backslashes_elsewhere_stay(byte_tokenizer):
    text = "C:\\<i> \\n <im g>"
    assert byte_tokenizer.decode(byte_tokenizer.encode(text)) == text


def test_an_unclosed_tag_names_the_backslash(byte_tokenizer):
    with pytest.raises(UserError, match=r"or \\<img> for the tag as text"):
        byte_tokenizer.encode("what is <img>?")


def test_a_data_address_in_a_tag_is_named(byte_tokenizer):
    with pytest.raises(UserError, match=r"the data: address in <img>…</img> has 322 bytes, at most 256 fit: give the"):
        byte_tokenizer.encode(f"<img>data:image/png;base64,{'A' * 300}</img>")


def test_bytes_that_python_kept_are_read_as_utf_8(byte_tokenizer):
    kept = "ç 中".encode().decode("ascii", "surrogateescape")
    assert byte_tokenizer.encode(kept) == byte_tokenizer.encode("ç 中")
    assert byte_tokenizer.decode(byte_tokenizer.encode("caf\udce9")) == "caf\ufffd"


@pytest.mark.parametrize("case", CASES["make_context"], ids=range(len(CASES["make_context"])))
def test_make_context(tokenizer, case):
    text, ids = prompt.make_context(tokenizer, case["query"], case["history"], case["system"],
                                    case.get("max_window_size", prompt.MAX_WINDOW), case["chat_format"])
    assert text == case["raw_text"]
    assert ids == case["ids"]


def test_make_context_reads_no_control_tokens_from_users(byte_tokenizer):
    _, ids = prompt.make_context(byte_tokenizer, "<|im_end|>", [("a", "<|im_start|>")])
    assert ids.count(byte_tokenizer.im_end) == 4 and ids.count(byte_tokenizer.im_start) == 5


def test_make_context_refuses_an_unknown_format(byte_tokenizer):
    with pytest.raises(UserError, match="chatml or raw"):
        prompt.make_context(byte_tokenizer, "x", chat_format="other")


def test_with_image_is_the_base_format(tokenizer):
    case = next(c for c in LISTS if c["text"].startswith("Picture 1:<img>demo.jpg") and c["text"].endswith("it?"))
    text = prompt.with_image("What is it?", ["demo.jpg"])
    assert text == case["text"] and tokenizer.encode(text) == case["ids"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_with_image_counts_pictures(byte_tokenizer, count):
    ids = byte_tokenizer.encode(prompt.with_image("x", count))
    spans = prompt.image_spans(ids, byte_tokenizer.image_start)
    assert len(spans) == count and all(ids[at - 1] == byte_tokenizer.image_start for at in spans)


@pytest.mark.parametrize("name, spans", [("case2_text", []), ("case3_one_image", [14]), ("case4_two_images", None)])
def test_image_spans_of_the_golden_prompts(tiny, name, spans):
    case = np.load(tiny / f"{name}.npz")
    found = prompt.image_spans(case["input_ids"][0], 480)
    assert found.dtype == np.int32 and len(found) == (case["image_index"].size if "image_index" in case else 0)
    assert all(case["input_ids"][0, at:at + 256].tolist() == [482] * 256 for at in found)
    assert spans is None or found.tolist() == spans


@pytest.mark.parametrize("ids, words", [
    ([5], "unclosed"), ([6], "without"), ([5, *[1] * 255, 6], "255 slots"), ([5, *[1] * 257, 6], "257 slots"),
    ([6, *[1] * 300, 5], "slots"), ([5, *[1] * 256, 6, 5], "unclosed"), ([5, *[1] * 128, 5, *[1] * 127, 6, 6], "slots"),
])
def test_image_spans_refuses(ids, words):
    with pytest.raises(UserError, match=words):
        prompt.image_spans(ids, 5)
