"""`python -m infer`: text and times come out; what cannot be run is refused before the graphs are loaded."""

import re
import signal
import subprocess
import sys

import pytest
from PIL import Image

from core.errors import UserError
from infer import __main__ as cli
from infer.image import default_image
from infer.model import QwenVL
from infer.prompt import BENCHMARK_PROMPT, images_of
from infer.sampling_parameters import Sampling
from tests.ctrl_c import heed_ctrl_c


@pytest.fixture
def refused(exported_tiny, monkeypatch):
    """Run the command line in this process; it must end in a UserError that holds `words`, without an engine."""
    def run(words, *arguments, exported=exported_tiny):
        monkeypatch.setattr(sys, "argv", ["infer", "--exported", str(exported), *map(str, arguments)])
        monkeypatch.setattr("infer.model.Engine", lambda *_: pytest.fail("the graphs were loaded"))
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


@pytest.mark.parametrize("module", ["infer", "infer.chat"])
def test_an_option_that_cannot_be_read_is_one_line(exported_tiny, module):
    done = subprocess.run([sys.executable, "-m", module, "--exported", exported_tiny, "--top-k", "a\nb"],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --top-k: invalid int value: 'a\\nb'\n"


def test_benchmark_question_is_the_default():
    assert cli.question(None, []) == (BENCHMARK_PROMPT, [default_image()])
    assert cli.question(None, ["a.png"]) == (BENCHMARK_PROMPT, ["a.png"])
    assert cli.question("What?", []) == ("What?", [])


def test_images_stand_before_the_text(exported_tiny):
    model, file = QwenVL(exported_tiny), str(default_image())
    ids, pictures = model.prepare("Compare.", [file, file], model.settings(8, Sampling()))
    assert model.tokenizer.decode(ids) == "Picture 1:<img>1.jpg</img>\nPicture 2:<img>2.jpg</img>\nCompare."
    assert len(pictures) == 2


def test_images_can_be_named_in_the_prompt():
    assert images_of("<img>a.png</img>What?", []) == ["a.png"]


def test_text_comes_piece_by_piece(exported_tiny):
    """The first piece can be read while the rest is being made: it is not held back until the end."""
    arguments = ["--exported", exported_tiny, "--device", "cpu", "--prompt", "x", "--min-new-tokens", "8000",
                 "--max-new-tokens", "8000", "--temperature", "1"]
    with subprocess.Popen([sys.executable, "-m", "infer", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c) as process:
        assert process.stdout.readline().startswith(b"loaded in")
        assert process.stdout.read(1) and process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130 and errors == b"interrupted\n"


def test_options_of_sampling(exported_tiny, monkeypatch, capsys):
    def answer(seed):
        monkeypatch.setattr(sys, "argv", [
            "infer", "--exported", str(exported_tiny), "--device", "cpu", "--prompt", "Hello", "--temperature", "1.5",
            "--top-k", "50", "--top-p", "0.9", "--repetition-penalty", "1.1", "--min-new-tokens", "3",
            "--max-new-tokens", "12", "--stop", "\n", "--seed", seed])
        cli.main()
        return capsys.readouterr().out.split("TTFT")[0].partition("\n")[2]
    assert answer("1") == answer("1") != answer("2")


@pytest.mark.parametrize("option, name", [
    ("--temperature", "temperature"), ("--top-p", "top_p"), ("--top-k", "top_k"), ("--seed", "seed"),
    ("--min-new-tokens", "min_new_tokens"), ("--repetition-penalty", "repetition_penalty")])
def test_sampling_out_of_range(refused, option, name):
    refused(f"{name}=.* is out of range", "--prompt", "x", option, "-1")


@pytest.mark.parametrize("option, value", [("--temperature", 1), ("--repetition-penalty", 2), ("--min-new-tokens", 1)])
def test_native_graphs_take_the_likeliest_token_alone(refused, native_manifest, option, value):
    refused("IMPL=native take the likeliest token", "--prompt", "x", option, value, exported=native_manifest)


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
    refused("at least one token", "--max-new-tokens", 0)


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
    from infer.options import visible

    assert visible("a\x1b[2Jb\r\n\tç中") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}\n\tç中"
