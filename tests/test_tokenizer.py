"""The tokenizer against every case of the reference's, and over a vocabulary of single bytes."""

import json
from pathlib import Path

import pytest

from core.errors import UserError

CASES = json.loads((Path(__file__).parent / "data" / "tokenizer_cases.json").read_text(encoding="utf-8"))


def test_special_ids_are_the_published_ones(tokenizer):
    for text, token in CASES["special_token_ids"].items():
        assert tokenizer.special[text] == token
    assert tokenizer.vocab_size == CASES["n_vocab"] and tokenizer.end_of_text == CASES["mergeable_ranks"]
    named = (tokenizer.im_start, tokenizer.im_end, tokenizer.image_start, tokenizer.image_end, tokenizer.image_pad)
    assert named == (151644, 151645, 151857, 151858, 151859)


@pytest.mark.parametrize("case", CASES["cases"], ids=range(len(CASES["cases"])))
def test_case(tokenizer, case):
    ids = tokenizer.encode(case["text"])
    assert ids == case["ids"]
    assert tokenizer.decode(ids) == case["decoded"]
    assert tokenizer.decode(ids, skip_special=True) == case["decoded_skip_special"]


@pytest.mark.parametrize("case", CASES["errors"], ids=range(len(CASES["errors"])))
def test_error_case(tokenizer, case):
    if case["ok"]:
        assert tokenizer.encode(case["text"]) == case["ids"]
    else:
        with pytest.raises(UserError):
            tokenizer.encode(case["text"])


@pytest.mark.parametrize("case", CASES["decode"], ids=range(len(CASES["decode"])))
def test_decode_case(tokenizer, case):
    assert tokenizer.decode(case["ids"]) == case["decoded"]
    assert tokenizer.decode(case["ids"], skip_special=True) == case["decoded_skip_special"]


@pytest.mark.parametrize("text", ["", "Hello, wörld!", "图中的狗", "👩‍👩‍👧 ok", "<img>a/图.png</img>?<|endoftext|>"])
def test_single_bytes_round_trip(byte_tokenizer, text):
    assert byte_tokenizer.decode(byte_tokenizer.encode(text)) == text


def test_single_bytes_put_special_ids_after_the_ranks(byte_tokenizer):
    assert byte_tokenizer.encode("a<|endoftext|>") == [97, 256]
    assert (byte_tokenizer.image_start, byte_tokenizer.image_end, byte_tokenizer.image_pad) == (470, 471, 472)
    assert byte_tokenizer.vocab_size == 473


def test_path_of_256_bytes_fills_every_slot(byte_tokenizer):
    ids = byte_tokenizer.encode(f"<img>{'x' * 256}</img>")
    assert ids == [470, *[120] * 256, 471]
    assert byte_tokenizer.decode(ids) == f"<img>{'x' * 256}</img>"


@pytest.mark.parametrize("text, words", [
    ("<img>a", "unclosed image tag"), ("<img>a</img><img>", "unclosed image tag"),
    (f"<img>{'ü' * 129}</img>", "258 bytes"), ("<img><imgpad></img>", "special token"),
    ("<img><img>a</img>", "special token"), ("x" * ((1 << 20) + 1), "longer than"), (" " * 1_000_000, "white space"),
])
def test_text_that_is_refused(byte_tokenizer, text, words):
    with pytest.raises(UserError, match=words):
        byte_tokenizer.encode(text)


def test_special_tokens_can_be_limited(byte_tokenizer):
    assert byte_tokenizer.encode("<ref><|im_end|>", ["<ref>"]) == [byte_tokenizer.special["<ref>"], *b"<|im_end|>"]
    assert byte_tokenizer.encode("<ref>", ()) == list(b"<ref>")


def test_whatever_a_model_generates_can_be_decoded(byte_tokenizer):
    assert byte_tokenizer.decode([470, 97]) == "<img>a"
    assert byte_tokenizer.decode([470, 300, 471], skip_special=True) == ""
    assert byte_tokenizer.decode([471, 97, 470, 471]) == "</img>a<img></img>"
    assert byte_tokenizer.decode([511, -1, 97]) == "\ufffd\ufffda"
    assert byte_tokenizer.decode([0xe5, 0x9b]) == "\ufffd"


def test_lone_surrogates_of_a_command_line_are_no_error(byte_tokenizer):
    assert byte_tokenizer.decode(byte_tokenizer.encode("a\udc80b")) == "a\ufffdb"
