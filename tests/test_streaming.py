"""Text from a stream of tokens: its pieces are whole characters and together the text of all tokens."""

import numpy as np
import pytest

from infer.streaming import TextStream

TEXTS = ["plain words", "naïve café — 你好，世界", "👩‍👩‍👧 flags 🇩🇪", "tabs\tand\nlines", "\ufffd already replaced", ""]


def pieces(tokenizer, ids, size=1):
    stream = TextStream(tokenizer)
    return [*(stream.add(ids[i:i + size]) for i in range(0, len(ids), size)), stream.end()]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(byte_tokenizer, text, size):
    made = pieces(byte_tokenizer, byte_tokenizer.encode(text), size)
    assert "".join(made) == text
    assert all(piece in text for piece in made)  # no half characters on the way


def test_published_tokens_that_end_within_a_character(tokenizer):
    text = "𠜎𠜱 ᚠᛇᚻ 👍🏽 ñandú"
    ids = tokenizer.encode(text)
    assert any("\ufffd" in tokenizer.decode([i]) for i in ids)
    made = pieces(tokenizer, ids)
    assert "".join(made) == text and not any("\ufffd" in piece for piece in made)


def test_characters_come_as_soon_as_they_are_complete(byte_tokenizer):
    assert pieces(byte_tokenizer, list("aé€".encode())) == ["a", "", "é", "", "", "€", ""]


def test_an_unfinished_character_comes_at_the_end(byte_tokenizer):
    assert pieces(byte_tokenizer, list("a€".encode())[:-1]) == ["a", "", "", "\ufffd"]


def test_any_tokens_give_what_decoding_them_at_once_gives(byte_tokenizer):
    rng = np.random.default_rng(0)
    for _ in range(300):
        ids = rng.integers(0, byte_tokenizer.vocab_size + 3, rng.integers(0, 40)).tolist()
        spoken = [i for i in ids if not byte_tokenizer.is_control(i)]
        assert "".join(pieces(byte_tokenizer, ids)) == byte_tokenizer.decode(spoken)


def test_image_tags_in_any_order_give_what_decoding_them_at_once_gives(byte_tokenizer):
    t, rng = byte_tokenizer, np.random.default_rng(1)
    for _ in range(500):
        ids = rng.choice([t.image_start, t.image_end, t.image_pad, 97, 0xC3, 0xA9], rng.integers(0, 12)).tolist()
        assert "".join(pieces(t, ids)) == t.decode(ids)


def test_control_tokens_are_left_out_and_boxes_stay(byte_tokenizer):
    t = byte_tokenizer
    ids = [*t.encode("<ref>a</ref><box>(1,2),(3,4)</box>"), t.im_end, t.end_of_text, t.im_start]
    assert "".join(pieces(t, ids)) == "<ref>a</ref><box>(1,2),(3,4)</box>"


def test_the_path_of_an_image_comes_whole(byte_tokenizer):
    made = pieces(byte_tokenizer, byte_tokenizer.encode("x<img>é.png</img>y"))
    assert [piece for piece in made if piece] == ["x", "<img>é.png</img>", "y"]


def test_an_image_that_is_never_closed_comes_at_the_end(byte_tokenizer):
    ids = [byte_tokenizer.image_start, *b"ab"]
    assert [piece for piece in pieces(byte_tokenizer, ids) if piece] == ["<img>ab"]
