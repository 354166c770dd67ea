"""`python -m infer.chat`: its commands, Ctrl-C and the end of input."""

import io
import re
import signal
import subprocess
import sys

import pytest

from core.errors import UserError
from infer import chat
from infer.image import default_image
from tests.ctrl_c import heed_ctrl_c

OPTIONS = ["--device", "cpu", "--min-new-tokens", "4", "--temperature", "1"]


@pytest.fixture
def talk(exported_tiny, monkeypatch, capsys):
    """Run a chat in this process with some lines of input; (lines printed, without the first; what went to stderr)."""
    def run(*lines):
        monkeypatch.setattr(sys, "argv", ["chat", "--exported", str(exported_tiny), *OPTIONS, "--max-new-tokens", "4"])
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
        chat.main()
        out, errors = capsys.readouterr()
        first, *rest = out.splitlines()
        assert re.fullmatch(r"loaded in \d+\.\d\d s \(fused, float32, cpu\); /help lists the commands", first)
        return rest, errors
    return run


def prefilled(lines):
    """(tokens prefilled, tokens of the context) of each answer."""
    return [tuple(map(int, found)) for found in re.findall(
        r"TTFT [\d.]+ ms.*?; prefilled (\d+) of (\d+) tokens", "\n".join(lines))]


def test_turns_pictures_and_a_new_beginning(talk):
    lines, errors = talk("Hello", f"/image {default_image()}", "What is it?", "And?", "", "/reset", "Hello")
    first, picture, third, anew = prefilled(lines)
    assert errors == "" and first[0] == first[1] == anew[0] == anew[1]
    assert 256 < picture[0] < picture[1] and third[0] < 100 < 256 < third[1]
    assert any("vision" in line for line in lines) and lines[-1] == "> "


def test_mistakes_do_not_end_the_chat(talk, tmp_path):
    lines, errors = talk(f"/image {tmp_path / 'none.jpg'}", "/imagine", "<img>x", "Hello", "/quit", "never read")
    first, second = errors.splitlines()
    assert first.startswith("error: no such image") and second.startswith("error: unclosed image tag")
    assert "unknown command /imagine" in "\n".join(lines) and len(prefilled(lines)) == 1


def test_help_names_the_commands(talk):
    text = "\n".join(talk("/help")[0])
    assert all(command in text for command in ("/image FILE", "/reset", "/quit", "Ctrl-C"))


def test_ctrl_c_stops_the_answer_and_not_the_program(exported_tiny):
    command = [sys.executable, "-m", "infer.chat", "--exported", exported_tiny, *OPTIONS]
    with subprocess.Popen([*command, "--max-new-tokens", "6000", "--min-new-tokens", "6000"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c) as process:
        assert process.stdout.readline().startswith(b"loaded in")
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        assert process.stdout.read(4).startswith(b"> ")  # the prompt and the first of the answer
        process.send_signal(signal.SIGINT)
        stopped = b""
        while not stopped.endswith(b"[stopped]\n> "):
            piece = process.stdout.read(1)
            assert piece, "the program ended"
            stopped += piece
        out, errors = process.communicate(b"/quit\n")
    assert process.returncode == 0 and errors == b"" and out == b""


def test_ctrl_c_at_the_prompt_begins_a_new_line(talk, monkeypatch):
    lines = iter([KeyboardInterrupt, "/help", EOFError])

    def read(_):
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("infer.chat.read_line", read)
    assert "/quit" in "\n".join(talk()[0])


@pytest.mark.parametrize("arguments, words", [
    (["--top-p", "7"], r"top_p=7.0 is out of range"), (["--max-new-tokens", "0"], "at least one token"),
    (["--stop", "two words"], "give texts of one token each")])
def test_options_out_of_range_are_refused_at_once(exported_tiny, monkeypatch, arguments, words):
    monkeypatch.setattr(sys, "argv", ["chat", "--exported", str(exported_tiny), *arguments])
    monkeypatch.setattr("infer.model.Engine", lambda *_: pytest.fail("the graphs were loaded"))
    with pytest.raises(UserError, match=words):
        chat.main()


def test_native_graphs_refuse_to_draw_at_once(native_manifest, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["chat", "--exported", str(native_manifest), "--temperature", "1"])
    monkeypatch.setattr("infer.model.Engine", lambda *_: pytest.fail("the graphs were loaded"))
    with pytest.raises(UserError, match="IMPL=native take the likeliest token"):
        chat.main()
