"""Texts from outside become one printable line; commands made of them mean the same words to bash."""

import subprocess

import pytest

from core.errors import UserError
from core.text import escaped, escaped_texts, one_line, reread, shell_line, short


@pytest.mark.parametrize("text, shown", [
    ("caf\udce9.jpg", r"caf\xe9.jpg"), ("a\nb\r\t", r"a\nb\r\t"), ("\x1b[2J", r"\x1b[2J"), ("\u202egpj", r"\u202egpj"),
    ("\ud800", r"\ud800"), ("\x85\u2028", r"\x85\u2028"), ("ç 中 😀", "ç 中 😀"), ("", "")])
def test_what_is_not_printable_is_escaped(text, shown):
    assert escaped(text) == shown == escaped(shown) and shown.isprintable()


def test_an_error_is_one_printable_line():
    assert str(UserError("no \x1b[2J such\n  image: caf\udce9.jpg\n")) == r"no \x1b[2J such image: caf\xe9.jpg"


def test_runs_of_space_become_one():
    assert one_line(" a \n\n b\tc ") == "a b c"


def test_long_texts_are_cut():
    assert short("a" * 101) == "a" * 99 + "…" and short("a" * 100) == "a" * 100


def test_every_text_of_a_json_value_is_escaped():
    assert escaped_texts({"a\n": ["\x1b", 1, None, {"b": "\udce9"}], "c": ("d",)}) == {
        r"a\n": [r"\x1b", 1, None, {"b": r"\xe9"}], "c": ["d"]}


@pytest.mark.parametrize("text, read", [
    ("é".encode().decode("ascii", "surrogateescape"), "é"), ("caf\udce9!", "caf\ufffd!"), ("\ud800ç", "\ud800ç")])
def test_bytes_that_were_kept_are_read_as_utf_8(text, read):
    assert reread(text) == read


def test_a_shell_line_stands_for_exactly_its_words():
    words = ["a", "b c", "", "it's", "caf\udce9 \\ 'x'", "two\nlines\t\\n", "\x1b[2J", "$HOME `id` ! | < &", "中",
             "\x01f"]
    line = shell_line(words)
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1] == words
