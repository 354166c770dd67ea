"""`python -m infer.chat` as a program in pipes: any bytes on its input, any end of it, a reader that leaves; the names
that /image takes."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from PIL import Image

from infer import chat
from infer.chat import file_named


def command(exported):
    return [sys.executable, "-m", "infer.chat", "--exported", exported, "--device", "cpu", "--max-new-tokens", "3"]


def talk(exported, lines, streams="", **options):
    return subprocess.run(["bash", "-o", "pipefail", "-c", f'"$@" {streams}', "bash", *command(exported)], input=lines,
                          capture_output=True, **options)


def answers(done):
    return done.stdout.count(b"\n[TTFT") + done.stdout.count(b"\n[preprocess")


def test_any_bytes_are_a_message(exported_tiny, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Image.new("RGB", (8, 8)).save(name.decode("utf-8", "surrogateescape"))
    lines = [b"/image", b"caf\xe9 \xff\xfe", b"a\0b", b"\x1b[2J\x07", b"/image " + name, b"what?", b"/im\x1b[2J\xe9",
             b"\xed\xa0\x80"]
    done = talk(exported_tiny, b"\n".join(lines) + b"\n")
    assert done.returncode == 0 and done.stderr == b"error: /image needs the name of a file\n" and answers(done) == 5
    assert rb"unknown command /im\x1b[2J\xe9" in done.stdout and b"\x1b" not in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_any_encoding(exported_tiny, encoding):
    done = talk(exported_tiny, "ç 中\n/image ç中.jpg\n".encode(), env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and answers(done) == 1 and done.stderr.startswith(b"error: no such image: ")


def test_a_line_without_its_end_is_the_last_one(exported_tiny):
    done = talk(exported_tiny, b"hello\nagain")
    assert done.returncode == 0 and answers(done) == 2 and done.stdout.endswith(b"\n> \n")


def test_a_line_that_is_too_long_is_passed_over(exported_tiny, monkeypatch):
    done = talk(exported_tiny, b"x" * (2 * chat.MAX_LINE + 9) + b"\nhello\n" + b"y" * (chat.MAX_LINE + 1))
    assert done.returncode == 0 and answers(done) == 1
    assert done.stderr.count(b"error: a line of input has more than 1048576 characters") == 2


@pytest.mark.parametrize("given, encoding, words", [
    ("hello\nagain\n".encode("utf-16"), "", b"is UTF-16: give it UTF-8"),
    (b"\xfe\xff" + "hello\n".encode("utf-16-be"), "", b"is UTF-16: give it UTF-8"),
    (b"abc", "utf-16:strict", b"cannot be read")])
def test_input_of_another_encoding_ends_it_in_one_line(exported_tiny, given, encoding, words):
    done = talk(exported_tiny, given, env={**os.environ, "PYTHONIOENCODING": encoding})
    message = done.stderr.replace(b"\0", b"")
    assert done.returncode == 1 and message.count(b"\n") == 1 and words in message and answers(done) == 0


def test_input_open_for_writing_alone_ends_it_in_one_line(exported_tiny, tmp_path):
    done = talk(exported_tiny, b"", f"0> {tmp_path}/file")
    assert (done.returncode, done.stderr) == (
        1, b"error: standard input cannot be read (Bad file descriptor): give it lines of text\n")


@pytest.mark.parametrize("streams, status, errors", [
    ("<&-", 0, b""), ("| head -1", 0, b""), (
        "> /dev/full", 1, b"error: No space left on device (standard output or error): free some space, or put what "
                          b"is written on another disk (OUT= or BUILD=)\n")])
def test_streams_of_every_kind_end_it_quietly(exported_tiny, streams, status, errors):
    done = talk(exported_tiny, b"hello\n/help\nhello\n", streams)
    assert (done.returncode, done.stderr) == (status, errors)


def test_any_bytes_at_a_terminal(exported_tiny):
    master, terminal = pty.openpty()
    with subprocess.Popen(command(exported_tiny), stdin=terminal, stdout=terminal, stderr=subprocess.PIPE) as process:
        os.close(terminal)
        os.write(master, b"caf\xe9\n/quit\n")
        shown = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while piece := os.read(master, 1 << 16):
                shown += piece
        assert process.stderr.read() == b"" and process.wait() == 0 and shown.count(b"[TTFT") == 1
    os.close(master)


@pytest.mark.parametrize("written", ["{}", "'{}'", '"{}"', "file://{}", "FILE://localhost{}", "'file://{}'", "file:{}"])
@pytest.mark.parametrize("name", ["a.jpg", "my dog.jpg", "中.jpg"])
def test_ways_to_write_a_file(tmp_path, written, name):
    (tmp_path / name).touch()
    assert file_named(written.format(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize("written, name", [
    (r"{}/my\ dog.jpg", "my dog.jpg"), ("file://{}/my%20dog%27s%E9.jpg", "my dog's\udce9.jpg"),
    ("{}/dog's.jpg", "dog's.jpg"), ("{}/'quoted'", "'quoted'"), (r"{}/a\b.jpg", r"a\b.jpg"),
    ("{}/50%25.jpg", "50%25.jpg"),
    ("~/dog.jpg", "dog.jpg"), ("'~/dog.jpg'", "dog.jpg")])
def test_names_of_every_kind(tmp_path, monkeypatch, written, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / name).touch()
    assert file_named(written.format(tmp_path)) == str(tmp_path / name)


@pytest.mark.parametrize("written, said", [("none.jpg", "none.jpg"), ("a b 'c", "a b 'c"), ("", ""), ("a\0b", "a\0b"),
                                           ("file://host/a.jpg", "file://host/a.jpg"), ("x" * 5000, "x" * 5000)])
def test_what_is_no_file_stays_as_it_was_written(tmp_path, monkeypatch, written, said):
    monkeypatch.chdir(tmp_path)
    assert file_named(written) == said
