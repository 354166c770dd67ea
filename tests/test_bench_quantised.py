"""Arms that round their matrices: held to arithmetic over their own numbers, with what the rounding costs beside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import golden_tensors, write_checkpoint
from gptq_files import gptq_config, gptq_tensors, write_gptq
from quantised_files import MATRICES, twin_config

from bench.__main__ import main, options_of, parse
from bench.gate import Judge, divergence
from bench.schema import read_rows
from bench.text import POSITIONS, TEXT, text_ids
from core.errors import UserError
from export.__main__ import export
from export.checkpoint import open_checkpoint
from export.synthetic import write_checkpoint as write_synthetic
from export.vocabulary import write_vocabulary
from ops import formats

ROOT, ARM = Path(__file__).parents[1], "paddle-fused-int4"


def outputs(seed, noise=0.0):
    """Of a generation; `noise` is added to the logits of seed 7's."""
    generator = np.random.default_rng(7)
    logits = generator.normal(size=[1, 6, 50], scale=2.4) + noise * np.random.default_rng(seed).normal(size=[1, 6, 50])
    features = generator.normal(size=[1, 256, 16]).astype(np.float32)
    return {"image_features": features, "logits": logits.astype(np.float32), "tokens": logits.argmax(-1)}


@pytest.fixture
def judge():
    """One that has a reference, another over rounded numbers for the arm, and a text."""
    text = [1, 2, 3], np.random.default_rng(1).normal(size=[3, 50]).astype(np.float32)
    return Judge("float32", "torch-eager", outputs(0), None, {ARM: outputs(1, 0.02)}, text)


def test_arithmetic_is_judged_over_the_rounded_numbers(judge):
    exact = judge.judge(ARM, outputs(1, 0.02), lossy=True)
    assert exact["passed"] and exact["logits"]["max_abs_difference"] == 0
    assert 0 < exact["lossy"]["kl"] < 1e-2 and exact["lossy"]["steps"] == 6
    unrounded = judge.judge(ARM, outputs(0), lossy=True)   # what another program's rounding would give
    assert not unrounded["passed"] and "logits differ by" in unrounded["reason"]
    assert judge.judge("another", outputs(0), lossy=True)["passed"]


def test_passes_are_judged_by_the_same(judge):
    tokens = outputs(1, 0.02)["tokens"].tolist()
    assert judge.judge_pass(tokens, ARM)["passed"] and judge.is_rounded(ARM) and not judge.is_rounded("another")
    wrong = [[(token + 1) % 50 for token in tokens[0]]]
    assert not judge.judge_pass(wrong, ARM)["passed"]


def test_no_reference_is_no_pass():
    judge = Judge("float32", "torch-eager", outputs(0), None, {ARM: None})
    assert judge.judge(ARM, outputs(0), lossy=True)["reason"] == "there is no float32 reference of its rounded weights"
    assert judge.text_cost(np.zeros([3, 50])) == {}


def test_what_a_text_costs(judge):
    ours = np.random.default_rng(2).normal(size=[3, 50]).astype(np.float32)
    p, q = (np.exp(logits.astype(np.float64)) for logits in (judge._text, ours))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = np.mean([(a * np.log(a / b)).sum() for a, b in zip(p, q)])
    cost = judge.text_cost(ours)
    assert cost["text_kl"] == pytest.approx(expected, rel=1e-9) and cost["text_positions"] == 3
    assert cost["text_top1"] == np.mean(p.argmax(-1) == q.argmax(-1))
    assert divergence(ours, ours) == (0.0, 1.0)


def test_the_text_has_enough_tokens(byte_tokenizer):
    assert len(text_ids(byte_tokenizer, 4096)) == POSITIONS == len(text_ids(byte_tokenizer, 512))
    assert len(text_ids(byte_tokenizer, 64)) == 64 and len(TEXT) > 4.5 * POSITIONS


def test_weights_add_an_arm():
    args = ["run", "--checkpoint", "c", "--device", "cpu"]
    assert ARM not in options_of(parse(args)).arms
    assert options_of(parse([*args, "--weights", "int4"])).arms[-1] == ARM
    assert options_of(parse([*args, "--weights", "int4", "--arms", "paddle-fused"])).arms == ("paddle-fused", ARM)
    with pytest.raises(SystemExit):
        parse([*args, "--weights", "int4+int8"])


@pytest.mark.parametrize("command, options, words", [
    (["run"], ["--weights", "float16"], "WEIGHTS=float16: the run is in float32: use WEIGHTS=float32, or leave it out"),
    (["regress"], ["--weights", "int8", "--impl", "native"], "is for the fused graphs: leave out IMPL=native"),
    (["reproduce", "--exported-fused", "e"], ["--weights", "int8"], "which the published protocol does not")])
def test_weights_that_a_command_cannot_take(command, options, words):
    with pytest.raises(UserError, match=words):
        options_of(parse([*command, "--checkpoint", "c", "--device", "cpu", *options]))


def test_formats_that_do_not_fit_the_model_are_refused_before_anything_is_measured(tmp_path, monkeypatch):
    """Of every command that measures: the tiny model's MLP fills no tiles."""
    tiny = write_synthetic("tiny", tmp_path / "tiny")
    common = ["--checkpoint", str(tiny), "--device", "cpu", "--out", str(tmp_path / "out"), "--weights", "int8"]
    monkeypatch.setattr("bench.session.Session.spawn", lambda *args: pytest.fail("something was started"))
    monkeypatch.setattr("bench.compare.check_out", lambda *args: pytest.fail("something was built"))
    (tmp_path / "e").mkdir()
    exported = ["--exported-fused", str(tmp_path / "e")]
    for arguments in (["run", *exported], ["sweep", *exported], ["compare", "--base", "HEAD"]):
        with pytest.raises(UserError, match="nothing here reads 8 bits a weight, .* for a model of these sizes in "
                                            "float32 on this cpu: use WEIGHTS=auto"):
            main([*arguments, *common])
    for update in [], ["--update"]:
        assert main(["regress", *exported, *common, *update]) == 2


def bench(folder, checkpoint, *options):
    """rows.jsonl's rows, accuracy.json, table.md of a run with one round."""
    write_vocabulary(checkpoint / "qwen.tiktoken", 480)
    export(("vision", "language"), checkpoint, folder / "fused")
    done = subprocess.run([
        sys.executable, "-m", "bench", "run", "--checkpoint", checkpoint, "--exported-fused", folder / "fused", "--out",
        folder / "results", "--device", "cpu", "--threads", "1", "--new-tokens", "4", "--rounds", "1", "--warmup", "1",
        "--launches", "1", *options], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (folder / "results").rglob("rows.jsonl")
    return (read_rows(path), json.loads((path.parent / "accuracy.json").read_text())["arms"],
            (path.parent / "table.md").read_text())


def test_a_run_with_weights(tmp_path):
    rng, tensors = np.random.default_rng(0), golden_tensors()
    for layer in range(2):
        for matrix, shape in MATRICES.items():
            tensors[f"transformer.h.{layer}.{matrix}.weight"] = rng.standard_normal(shape).astype(np.float32) / 16
    source = write_checkpoint(tmp_path / "checkpoint", tensors, config={**twin_config(), "synthetic": {}})
    rows, accuracy, table = bench(tmp_path, source, "--arms", "torch-eager,paddle-fused", "--weights", "int4")
    assert {(row.status, row.reason) for row in rows} == {("ok", "")}
    assert accuracy["paddle-fused"]["tokens"]["equal"] and "lossy" not in accuracy["paddle-fused"]
    ours = accuracy[ARM]
    assert ours["passed"] and ours["logits"]["max_abs_difference"] <= ours["logits"]["limit"]
    lost = ours["lossy"]
    assert lost["text_positions"] == POSITIONS and 1e-4 < lost["text_kl"] < 1 and 1e-4 < lost["kl"] < 1
    (work,) = {json.dumps(row.provenance["work"]) for row in rows if row.arm == ARM and row.stage == "token"}
    assert json.loads(work)["weights"] == "int4+float32"
    for words in ("KL over a text (nats)", "likeliest token the same, text", f"of {POSITIONS}",
                  "The weights are random: what is lost here is no measure of a model's quality."):
        assert words in table


def test_a_quantised_checkpoint_is_its_own_reference(tmp_path):
    """Every arm multiplies the codes out, exactly; ours keeps them, and is no lossy arm."""
    source = write_gptq(tmp_path / "checkpoint", gptq_tensors()[0])
    rows, accuracy, table = bench(tmp_path, source, "--arms", "torch-eager,paddle-fused")
    assert {(row.status, row.reason) for row in rows} == {("ok", "")}
    assert accuracy["paddle-fused"]["tokens"]["equal"]
    assert "paddle-fused keeps the language model's matrices in 4 bits" in table


def test_codes_that_no_format_holds_are_measured_with_the_remedy_that_is_named(tmp_path):
    """8 bits in groups: WEIGHTS=float32 multiplies them out."""
    source = write_gptq(tmp_path / "checkpoint", gptq_tensors(8, 128)[0], gptq_config(bits=8))
    rows, accuracy, table = bench(tmp_path, source, "--arms", "torch-eager,paddle-fused", "--weights", "float32")
    assert {(row.status, row.reason) for row in rows} == {("ok", "")}
    assert accuracy["paddle-fused"]["tokens"]["equal"] and "matrices in" not in table


def test_the_reference_rounds_what_the_arm_does(tmp_path):
    """torch's weights are those of the format, head included where that takes it."""
    code = ("import sys, numpy as np; from bench.torch_model.model import load_model;"
            "m = load_model(sys.argv[1], quantised_to='fp8'); np.savez(sys.argv[2], h=m.lm_head.weight.numpy(),"
            "c=m.transformer.h[1].attn.c_attn.weight.numpy(), v=m.transformer.wte.weight.numpy())")
    source, out = ROOT / "tests" / "data" / "tiny" / "checkpoint", tmp_path / "made.npz"
    subprocess.run([sys.executable, "-c", code, source, out], check=True, cwd=ROOT)
    made, exact, format = np.load(out), open_checkpoint(source).tensors, formats.get("fp8")
    for key, name in (("h", "lm_head.weight"), ("c", "transformer.h.1.attn.c_attn.weight")):
        np.testing.assert_array_equal(made[key], format.dequantise(format.quantise(exact[name].read())))
    np.testing.assert_array_equal(made["v"], exact["transformer.wte.weight"].read())
