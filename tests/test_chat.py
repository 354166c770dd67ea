"""Conversations: prompts equal to the reference's, pictures and history over turns, what failing turns leave."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from infer.conversation import Conversation
from infer.image import load_image, to_pixels
from infer.model import QwenVL
from infer.prompt import CHAT_LABEL, LABEL, MAX_WINDOW, SYSTEM

CASES = [case for case in json.loads((Path(__file__).parent / "data" / "tokenizer_cases.json").read_text(
    encoding="utf-8"))["make_context"] if case["chat_format"] == "chatml"]


@pytest.fixture(scope="module")
def model(exported_tiny):
    return QwenVL(exported_tiny, "cpu", image_folders=None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of four different pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, [60, 50, 3], np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(4)]


def whole(model, ids, files, new_tokens):
    """Tokens of a context that is prefilled at once, without anything kept."""
    engine = model.load()
    features = engine.vision(to_pixels([load_image(f) for f in files], 448)) if files else None
    t = model.tokenizer
    return engine.generate([ids], features, new_tokens, (t.im_end, t.im_start, t.end_of_text))[0]


def ask(model, conversation, text, images=(), files=(), query=None, new_tokens=8):
    """One turn, checked against the whole context; `files`: all pictures in it, `query`: the text it must become."""
    ids = conversation.context(query or text)
    answer = conversation.ask(text, images, max_new_tokens=new_tokens)
    assert answer.tokens == whole(model, ids, files, new_tokens) and answer.prompt_tokens == len(ids)
    assert conversation.history[-1][0] == (query or text)
    return answer


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_context_is_the_reference_s(tokenizer, case):
    conversation = Conversation(SimpleNamespace(tokenizer=tokenizer), case["system"],
                                case.get("max_window_size", MAX_WINDOW), CHAT_LABEL)
    conversation.history = [tuple(turn) for turn in case["history"]]
    assert conversation.context(case["query"]) == case["ids"]


def test_only_what_is_new_is_prefilled(model):
    conversation = model.chat()
    first = ask(model, conversation, "Hello")
    assert first.reused_tokens == 0
    second = ask(model, conversation, "And you?")
    assert second.reused_tokens >= first.prompt_tokens
    third = ask(model, conversation, "Why?")
    assert third.reused_tokens >= second.prompt_tokens
    assert [query for query, _ in conversation.history] == ["Hello", "And you?", "Why?"]


@pytest.mark.parametrize("label", [CHAT_LABEL, LABEL], ids=["current", "early"])
def test_pictures_over_several_turns(model, pictures, label):
    conversation, name = model.chat(label=label), [label.format(i) for i in range(1, 5)]
    ask(model, conversation, "What?", pictures[:1], pictures[:1], f"{name[0]}<img>1.jpg</img>\nWhat?")
    answer = ask(model, conversation, "Sure?", files=pictures[:1])
    assert answer.reused_tokens > 256 and "vision" not in answer.times
    query = f"{name[1]}<img>2.jpg</img>\n{name[2]}<img>3.jpg</img>\nAnd these?"
    answer = ask(model, conversation, "And these?", pictures[1:3], pictures[:3], query)
    assert answer.reused_tokens > 256 and "vision" in answer.times
    query = f"<img>{pictures[3]}</img>Now?"
    ask(model, conversation, query, files=pictures)
    assert conversation.files == [*pictures[:3], str(pictures[3])]


def test_turns_that_fall_out_of_the_window_take_their_pictures_along(model, pictures):
    conversation = model.chat(system="S", max_window=340)
    ask(model, conversation, "What?", pictures[:1], pictures[:1], "Picture 1: <img>1.jpg</img>\nWhat?", 4)
    ask(model, conversation, "That?", pictures[1:2], pictures[:2], "Picture 2: <img>2.jpg</img>\nThat?", 4)
    answer = ask(model, conversation, "And?", files=pictures[1:2], new_tokens=4)
    assert answer.reused_tokens < 40  # what stands before the first picture is the same, and no more
    assert len(conversation.history) == 3 and conversation.files == pictures[:2]


def test_length_at_which_the_rotary_base_changes(model):
    conversation = model.chat()
    ask(model, conversation, "a" * 1900, new_tokens=4)
    assert ask(model, conversation, "b", new_tokens=4).reused_tokens > 1900
    assert ask(model, conversation, "c" * 100, new_tokens=4).reused_tokens == 0
    assert ask(model, conversation, "d", new_tokens=4).reused_tokens > 2000


def test_the_end_of_a_turn_and_of_the_text_stop_an_answer(model, monkeypatch):
    given, t = [], model.tokenizer
    monkeypatch.setattr(model, "respond", lambda ids, features, settings, *rest: given.append(settings))
    model.chat().ask("x", stop=["!"])
    assert set(given[0].stop) == {t.im_end, t.im_start, t.end_of_text, *t.encode("!")}
    assert given[0].max_new_tokens == 512


def test_a_long_context_leaves_less_room(model, monkeypatch):
    given = []
    monkeypatch.setattr(model, "respond", lambda ids, features, settings, *rest: given.append((ids, settings)))
    model.chat().ask("x" * 7900)
    (ids, settings), = given
    assert len(ids) + settings.max_new_tokens == 8192


def test_pieces_are_the_answer(model):
    pieces = []
    answer = model.chat().ask("Hi", max_new_tokens=40, temperature=1.0, seed=3, stream=pieces.append)
    assert "".join(pieces) == answer.text and len(pieces) > 5


def test_same_seed_same_conversation(model):
    def texts(seed):
        conversation = model.chat()
        return [conversation.ask(q, max_new_tokens=12, temperature=1.0, seed=seed).text for q in ("Hello", "More")]
    assert texts(1) == texts(1) != texts(2)


def test_an_interrupted_answer_keeps_what_was_said(model):
    conversation, pieces = model.chat(), []

    def listen(piece):
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversation.ask("Hello", max_new_tokens=200, temperature=1.0, stream=listen)
    assert conversation.history == [("Hello", "".join(pieces).strip())]
    assert ask(model, conversation, "Go on").reused_tokens > 0


@pytest.mark.parametrize("text, images, words", [
    ("x", ["none.png"], "no such image"), ("<img>a.png", [], "unclosed image tag"), ("a</img>", [], "without <img>"),
    ("x" * 9000, [], "exceeds the model's 8192 positions"), ("<img>a.png</img>", ["b.png"], "one of the two")])
def test_a_turn_that_fails_changes_nothing(model, pictures, text, images, words):
    conversation = model.chat()
    ask(model, conversation, "What?", pictures[:1], pictures[:1], "Picture 1: <img>1.jpg</img>\nWhat?", 4)
    with pytest.raises(UserError, match=words):
        conversation.ask(text, images)
    assert len(conversation.history) == 1 and conversation.files == pictures[:1]
    assert ask(model, conversation, "Yes?", files=pictures[:1]).reused_tokens > 256


@pytest.mark.parametrize("said, kept", [("<img>a.png</img>", "< img>a.png< /img>"), ("<<img>", "<< img>"),
                                        ("<i<img>mg></</img>img>", "<i< img>mg></< /img>img>")])
def test_image_tags_in_an_answer_are_no_pictures(model, monkeypatch, said, kept):
    conversation, respond = model.chat(), model.respond

    def tagged(ids, features, settings, listen, *rest):
        listen(f" see {said} there ")
        return respond(ids, features, settings, None, *rest)

    monkeypatch.setattr(model, "respond", tagged)
    conversation.ask("Hello", max_new_tokens=2)
    assert conversation.history == [("Hello", f"see {kept} there")]
    conversation.ask("Again", max_new_tokens=2)


def test_reset_begins_anew(model, pictures):
    conversation = model.chat()
    conversation.ask("What?", pictures[:1], max_new_tokens=4)
    conversation.reset()
    assert conversation.history == [] and conversation.files == []
    assert ask(model, conversation, "Hello").reused_tokens == 0


def test_the_system_text_is_the_published_one(model):
    assert model.tokenizer.decode(model.chat().context("x")).startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>")
