"""A checkpoint in AutoGPTQ's layout gives the tokens of its dequantised twin, through every command and in every way
that its codes may be kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from checkpoint_files import run, write_checkpoint
from gptq_files import gptq_config, gptq_tensors, write_gptq
from quantised_files import twin_config

from core.errors import UserError
from core.placement import CPU
from export.__main__ import export
from export.convert import convert
from export.vocabulary import write_vocabulary
from infer.engine import Engine
from infer.formats import choices
from infer.graph import Manifest
from ops import formats

PROMPTS = [np.random.default_rng(seed).integers(0, 256, length).tolist() for seed, length in ((1, 5), (2, 90), (3, 17))]
LIMIT = 2e-4 / 2.4    # of the golden data, relative to the logits' size
KINDS = {"published": (4, 128, True, "int4+float32"), "zero points": (4, 128, False, "int4z+float32"),
         "groups of 32": (4, 32, True, "int4g32+float32"), "a scale a row": (8, -1, True, "int8+float32")}

FINER = {"published": ("int4z", "int4g64", "int4g32"), "zero points": ("int4g64", "int4g32")}   # hold the same as well


def graphs(folder, tensors, config, write, converted=False):
    source = write(folder / "checkpoint", tensors, config=config)
    write_vocabulary(source / "qwen.tiktoken", 480)
    export(("vision", "language"), convert(source, folder / "converted") if converted else source, folder / "exported")
    return folder / "exported"


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """(kind, graphs of the checkpoint, graphs of its twin)."""
    bits, group, symmetric, _ = KINDS[request.param]
    tensors, twin = gptq_tensors(bits, group, symmetric)
    folder = tmp_path_factory.mktemp("gptq")
    config = gptq_config(bits=bits, group_size=group, sym=symmetric)
    return (request.param, graphs(folder / "q", tensors, config, write_gptq, converted=True),
            graphs(folder / "twin", twin, twin_config(), write_checkpoint))


def results(engine):
    """Tokens alone and together, logits of the prompts."""
    tokens = [engine.generate([prompt], max_new_tokens=12) for prompt in PROMPTS]
    tokens += engine.generate(PROMPTS * 2, max_new_tokens=12)
    logits = []
    for prompt in PROMPTS:
        run = engine.start([prompt], logit_columns=[range(len(prompt))])
        run.prefill()
        logits.append(run.logits()[0])
    return tokens, np.concatenate(logits)


def test_tokens_and_logits_are_the_twins(exported):
    kind, ours, twin = exported
    expected, reference = results(Engine(twin, CPU))
    for weights in ("auto", KINDS[kind][3], "float32"):
        engine = Engine(ours, CPU, weights)
        assert engine.weights == (weights if weights != "auto" else KINDS[kind][3])
        tokens, logits = results(engine)
        assert tokens == expected
        assert np.abs(logits - reference).max() <= LIMIT * np.sqrt(np.mean(reference ** 2))


def test_what_the_checkpoint_has_quantised_is_not_rounded_again(exported):
    kind, ours, _ = exported
    own = KINDS[kind][3].split("+")[0]
    for format in formats.quantised():
        if format.name == own or format.name in FINER.get(kind, ()):
            assert Engine(ours, CPU, format.name).weights.split("+")[0] == format.name
        else:
            with pytest.raises(UserError, match="are not rounded again: use WEIGHTS=auto"):
                Engine(ours, CPU, format.name)


def test_codes_without_a_format_here_are_refused(exported):
    manifest = Manifest(exported[1] / "language")
    manifest.quantised = replace(manifest.quantised, bits=4)
    manifest.config = replace(manifest.config, intermediate_size=2 * 160)   # tiles do not fill it
    (decoder, _), _ = choices("auto", manifest, CPU), None
    assert decoder.candidates == () and "no format here keeps the checkpoint's 4 bits" in decoder.refusal


def test_native_graphs_hold_the_products(exported, tmp_path):
    kind, ours, twin = exported
    if kind != "published":
        pytest.skip("once is enough")
    export(("vision", "language"), ours.parent / "checkpoint", tmp_path, impl="native")
    export(("vision", "language"), twin.parent / "checkpoint", tmp_path / "twin", impl="native")
    mine, theirs = (folder / "language" / "model.pdiparams" for folder in (tmp_path, tmp_path / "twin"))
    assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("weights", ["auto", "float32"])
def test_the_command_line_answers(exported, weights):
    kind, ours, twin = exported
    if kind != "published":
        pytest.skip("once is enough")
    answers = [run("-m", "infer", "--exported", folder, "--prompt", "Once", "--max-new-tokens", 9, "--weights",
                   which).stdout.splitlines() for folder, which in ((ours, weights), (twin, "auto"))]
    assert answers[0][1] == answers[1][1] and len(answers[1]) > 2
    assert ("matrices in int4+float32" in answers[0][0]) == (weights == "auto")
    assert json.loads((ours / "language" / "manifest.json").read_text())["quantised"] == {
        "bits": 4, "group": 128, "zeros": False, "floating": False}
