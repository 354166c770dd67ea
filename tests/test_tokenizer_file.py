"""Vocabulary files: read within limits, refused with one line that says what is wrong."""

import base64

import pytest

from core import ranks as module
from core.errors import UserError
from core.ranks import read_ranks
from infer.tokenizer import Tokenizer


def line(token, rank):
    return base64.b64encode(token) + b" " + str(rank).encode() + b"\n"


BYTES = b"".join(line(bytes([i]), i) for i in range(256))


def refused(path, content, words):
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as fault:
        read_ranks(path)
    assert "\n" not in str(fault.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "qwen.tiktoken"


def test_order_and_empty_lines_do_not_matter(path):
    path.write_bytes(line(b"ab", 256) + b"\n" + BYTES)
    assert read_ranks(path)[b"ab"] == 256


def test_merges_follow_the_ranks(path):
    path.write_bytes(BYTES + line(b"bc", 256) + line(b"ab", 257))
    assert Tokenizer(path).encode("abc") == [97, 256]


def test_missing(path):
    with pytest.raises(UserError, match=r"qwen\.tiktoken"):
        read_ranks(path)


@pytest.mark.parametrize("bad, words", [
    (b"YWI=\n", "line 257"), (b"YWI= x\n", "line 257"), (b"YWI= -1\n", "line 257"), (b"YWI= 99999999\n", "line 257"),
    (b"Y*I= 256\n", "line 257"), (b"YWI 256\n", "line 257"), (b" 256\n", "line 257"), (b"\xff\xfe 256\n", "line 257"),
    (b"YWI= 256 7\n", "line 257"), (line(b"a", 256), "twice"), (line(b"ab", 255), "ranks"), (line(b"ab", 257), "ranks"),
    (line(b"a" * 1025, 256), "line 257"),
])
def test_faulty_line(path, bad, words):
    refused(path, BYTES + bad, words)


def test_truncated(path):
    refused(path, b"".join(BYTES.splitlines(keepends=True)[:100]), "single byte")
    refused(path, BYTES[:-3], "line 256|ranks")


def test_empty(path):
    refused(path, b"", "damaged")


def test_binary(path):
    refused(path, bytes(range(256)) * 40, "line 1")


def test_too_large(path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    refused(path, BYTES, "larger than")


def test_vocabulary_of_another_checkpoint(byte_vocabulary):
    with pytest.raises(UserError, match=r"256 ranks.*151857 needs 151643"):
        Tokenizer(byte_vocabulary, image_start_id=151857)
