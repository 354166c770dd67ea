"""`python -m infer`: text and times come out; what cannot be run is refused before the graphs are loaded."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from core.errors import UserError
from infer import __main__ as cli
from infer.image import default_image
from infer.prompt import BENCHMARK_PROMPT


@pytest.fixture
def refused(exported_tiny, monkeypatch):
    """Run the command line in this process; it must end in a UserError that holds `words`, without an engine."""
    def run(words, *arguments, exported=exported_tiny):
        monkeypatch.setattr(sys, "argv", ["infer", "--exported", str(exported), *map(str, arguments)])
        monkeypatch.setattr(cli, "Engine", lambda *_: pytest.fail("the graphs were loaded"))
        with pytest.raises(UserError, match=words) as fault:
            cli.main()
        assert "\n" not in str(fault.value)
    return run


def command(exported, *arguments):
    return subprocess.run([sys.executable, "-m", "infer", "--exported", exported, "--device", "cpu", *arguments],
                          capture_output=True, text=True)


def test_photograph_and_prompt(exported_tiny):
    done = command(exported_tiny, "--image", default_image(), "--prompt", "What is it?", "--max-new-tokens", "4")
    assert done.returncode == 0, done.stderr
    assert re.search(r"loaded in \d+\.\d\d s \(fused, float32, cpu\)", done.stdout)
    times = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"preprocess [\d.]+ ms, vision [\d.]+ ms, TTFT [\d.]+ ms(, TPOT [\d.]+ ms)?", times)


def test_text_alone_is_repeatable(exported_tiny):
    first, second = (command(exported_tiny, "--prompt", "Hello").stdout.splitlines()[1:] for _ in range(2))
    assert first[:-1] == second[:-1] and first[-1].startswith("TTFT")


def test_error_is_one_line_and_a_status(exported_tiny):
    done = command(exported_tiny, "--image", "none.jpg")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_benchmark_question_is_the_default():
    text, files = cli.question(None, [])
    assert files == [default_image()] and text == f"Picture 1:<img>1.jpg</img>\n{BENCHMARK_PROMPT}"


def test_images_stand_before_the_text():
    text, files = cli.question("Compare.", ["a.png", "b.png"])
    assert text == "Picture 1:<img>1.jpg</img>\nPicture 2:<img>2.jpg</img>\nCompare." and files == ["a.png", "b.png"]


def test_images_can_be_named_in_the_prompt():
    assert cli.question("<img>a.png</img>What?", []) == ("<img>a.png</img>What?", ["a.png"])


def test_unclosed_image_tag(refused):
    refused("unclosed image tag", "--prompt", "<img>a.png")


def test_images_named_twice(refused):
    refused("one of the two", "--prompt", "<img>a.png</img>", "--image", "b.png")


def test_stray_closing_tag(refused):
    refused("without <img>", "--prompt", "a</img>")


def test_prompt_longer_than_the_model(refused):
    refused("exceeds the model's 8192 positions", "--prompt", "x" * 8200)


def test_more_new_tokens_than_the_model_has_positions(refused):
    refused("NEW_TOKENS=", "--prompt", "x", "--max-new-tokens", 8192)


def test_no_new_tokens(refused):
    refused("at least one", "--max-new-tokens", 0)


def test_missing_image(refused, tmp_path):
    refused("no such image", "--image", tmp_path / "none.jpg")


def test_truncated_image(refused, tmp_path):
    path = tmp_path / "image.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    refused("damaged or incomplete", "--image", path)


def test_nothing_exported(refused, tmp_path):
    refused("make export", "--prompt", "x", exported=tmp_path)


def test_generated_control_characters_do_not_reach_the_terminal():
    from infer.__main__ import visible

    assert visible("a\x1b[2Jb\r\n\tç中") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}\n\tç中"
