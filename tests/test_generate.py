"""The Python interface, and sampling through the exported graph: tokens follow from the graph's own logits."""

import subprocess
import sys

import numpy as np
import pytest

from core.errors import UserError
from core.placement import CPU
from infer.cache import KvCache
from infer.engine import Engine
from infer.image import default_image
from infer.model import QwenVL
from infer.sampling_parameters import Sampling
from tests.conftest import ROOT
from tests.sampling_reference import check_run


@pytest.fixture(scope="module")
def model(exported_tiny):
    return QwenVL(exported_tiny, "cpu", image_folders=None)


@pytest.fixture(scope="module")
def native(exported_tiny, tmp_path_factory):
    """An engine on native graphs of the same checkpoint."""
    out = tmp_path_factory.mktemp("native")
    command = [sys.executable, "-m", "export", "all", exported_tiny.parent / "checkpoint", out, "--impl", "native"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Engine(out, CPU)


def prompt(length, seed):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def test_sampled_tokens_follow_from_the_logits(model):
    engine, prompts = model.load(), [prompt(20, 1), prompt(7, 2), prompt(31, 3)]
    samplings = [Sampling(1.0, seed=5), Sampling(0.8, 0.9, repetition_penalty=1.3, min_new_tokens=9, seed=2**40 + 1),
                 Sampling(repetition_penalty=2.0)]
    tokens = check_run(engine, prompts, samplings, 300, 12)
    assert tokens[2] != engine.generate(prompts, max_new_tokens=12)[2]  # the penalty did something


def test_a_batch_draws_what_each_prompt_draws_alone(model):
    engine, prompts = model.load(), [prompt(20, 4), prompt(45, 5)]
    samplings = [Sampling(1.0, seed=1), Sampling(1.5, top_k=40, seed=2)]
    together = engine.generate(prompts, max_new_tokens=10, sampling=samplings)
    assert together == [engine.generate([p], max_new_tokens=10, sampling=[s])[0] for p, s in zip(prompts, samplings)]


def test_sampling_does_not_see_whether_a_cache_was_kept(model):
    engine, first, cache = model.load(), prompt(30, 6), KvCache()
    given = [Sampling(1.0, repetition_penalty=1.5, seed=3)]
    run = engine.start([first], max_new_tokens=8, sampling=given, cache=cache)
    answer = [token for tokens in run.stream() for token in tokens]
    second = [*first, *answer, *prompt(6, 7)]
    run = engine.start([second], max_new_tokens=8, sampling=given, cache=cache)
    kept = [token for tokens in run.stream() for token in tokens]
    assert run.reused == len(first) + len(answer) - 1
    assert kept == engine.generate([second], max_new_tokens=8, sampling=given)[0]


def test_neutral_parameters_are_the_greedy_choice(model):
    engine, ids = model.load(), prompt(25, 8)
    greedy = engine.generate([ids], max_new_tokens=10)
    assert engine.generate([ids], max_new_tokens=10, sampling=[Sampling(seed=9)]) == greedy
    assert engine.generate([ids], max_new_tokens=10, sampling=[Sampling(1.0, top_k=1, seed=9)]) == greedy


def test_a_stream_of_tokens_is_the_answer(model):
    engine, ids = model.load(), prompt(25, 9)
    lists = list(engine.start([ids], max_new_tokens=10).stream())
    assert [len(tokens) for tokens in lists] == [1] * 10
    assert [lists[i][0] for i in range(10)] == engine.generate([ids], max_new_tokens=10)[0]


def test_native_graphs_refuse_to_sample(native):
    with pytest.raises(UserError, match="IMPL=native take the likeliest token: export with IMPL=fused"):
        native.start([prompt(5, 10)], sampling=[Sampling(1.0)])


def test_native_graphs_keep_a_cache_as_well(native, model):
    first, cache = prompt(30, 11), KvCache()
    answer = [token for tokens in native.start([first], max_new_tokens=6, cache=cache).stream() for token in tokens]
    second = [*first, *answer, *prompt(6, 12)]
    run = native.start([second], max_new_tokens=6, cache=cache)
    run.prefill()
    whole = model.load().start([second], max_new_tokens=6)
    whole.prefill()
    assert run.reused == 35
    np.testing.assert_allclose(run.logits(), whole.logits(), rtol=1e-4, atol=1e-4)


def test_generate_with_a_picture(model):
    pieces = []
    answer = model.generate("What is it?", [default_image()], max_new_tokens=12, temperature=0.9, top_p=0.95, seed=2,
                            stream=pieces.append)
    assert "".join(pieces) == answer.text and len(answer.tokens) <= 12
    assert set(answer.times) == {"preprocess", "vision", "TTFT", "TPOT"} and answer.reused_tokens == 0
    ids = model.tokenizer.encode("Picture 1:<img>1.jpg</img>\nWhat is it?")
    assert answer.prompt_tokens == len(ids)
    again = model.generate("What is it?", str(default_image()), max_new_tokens=12, temperature=0.9, top_p=0.95, seed=2)
    assert again.tokens == answer.tokens
    named = model.generate(f"Picture 1:<img>{default_image()}</img>\nWhat is it?", max_new_tokens=12, temperature=0.9,
                           top_p=0.95, seed=2)
    assert named.tokens == answer.tokens  # a picture's path does not matter


def test_stop_tokens_end_an_answer_and_are_no_text(model):
    texts = ("Once", "Twice", "Never", "Hello", "a b")
    answers = ((text, model.generate(text, max_new_tokens=20)) for text in texts)
    text, free = next((text, a) for text, a in answers if a.finish == "length" and len(set(a.tokens)) > 6)
    assert len(free.tokens) == 20
    stop = free.tokens[5]
    end = free.tokens.index(stop)
    stopped = model.generate(text, max_new_tokens=20, stop=[stop, 3])
    assert stopped.finish == "stop" and stopped.tokens == free.tokens[:end + 1]
    spoken = [t for t in free.tokens[:end] if not model.tokenizer.is_control(t)]
    assert stopped.text == model.tokenizer.decode(spoken)
    later = model.generate(text, max_new_tokens=20, stop=[stop], min_new_tokens=15)
    assert len(later.tokens) > 15 and stop not in later.tokens[:15]


@pytest.mark.parametrize("given, words", [
    (dict(max_new_tokens=0), "max_new_tokens=0"), (dict(max_new_tokens=2.5), "max_new_tokens=2.5"),
    (dict(temperature=-1.0), "temperature=-1.0"), (dict(top_p=0.0), "top_p=0.0"), (dict(seed=-1), "seed=-1"),
    (dict(stop=["two words"]), "stop='two words' is 9 tokens"), (dict(stop=[-1]), "stop=-1 lies outside"),
    (dict(stop=[512]), "stop=512 lies outside"), (dict(images=["none.png"]), "no such image"),
    (dict(max_new_tokens=8190), "exceeds the model's 8192 positions")])
def test_what_cannot_be_done_is_refused_before_the_graphs_are_loaded(exported_tiny, monkeypatch, given, words):
    monkeypatch.setattr("infer.model.Engine", lambda *_: pytest.fail("the graphs were loaded"))
    with pytest.raises(UserError, match=words):
        QwenVL(exported_tiny, "cpu").generate("Hello", **given)


def test_import_stays_light():
    code = ("import sys, infer; from infer.sampling_parameters import Sampling; assert 'paddle' not in sys.modules; "
            "assert 'PIL' not in sys.modules and 'tiktoken' not in sys.modules; "
            "from infer import QwenVL; assert 'paddle' not in sys.modules; print(QwenVL.__name__)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "QwenVL\n", done.stderr
