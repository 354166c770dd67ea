"""Checkpoints in AutoAWQ's layout: what is read, that values stay as they are, and what each bad file is called."""

import json

import numpy as np
import pytest
from awq_files import OLDER, awq_config, awq_tensors, write_awq
from checkpoint_files import fault_of, write_checkpoint
from quantised_files import NAME, PROMPTS, damager, twin_config

from core.placement import CPU
from export.__main__ import export
from export.check.__main__ import check
from export.checkpoint import open_whole
from export.convert import convert
from export.vocabulary import write_vocabulary
from infer.engine import Engine


@pytest.fixture(scope="module")
def made():
    """(tensors, tensors of the twin), which no test may change."""
    return awq_tensors()


@pytest.fixture
def damaged(made, tmp_path):
    return damager(write_awq, made[0], tmp_path / "bad")


def fault(folder):
    return fault_of(open_whole, folder)


@pytest.mark.parametrize("group", [128, 64, 32, -1])
def test_values_are_those_of_the_twin_and_stay_so_in_converted_files(tmp_path, group):
    tensors, twin = awq_tensors(group)
    source = write_awq(tmp_path / "q", tensors, awq_config(group_size=group))
    for opened in open_whole(source), open_whole(convert(source, tmp_path / "converted")):
        assert opened.tensors.keys() == twin.keys() and opened.quantised.zeros
        for name, tensor in opened.tensors.items():
            np.testing.assert_array_equal(tensor.read(), twin[name], err_msg=name)


def test_the_config_beside_it(made, tmp_path):
    folder = write_awq(tmp_path / "q", made[0], twin_config())
    (folder / "quant_config.json").write_text(json.dumps(OLDER))
    write_vocabulary(folder / "qwen.tiktoken", 480)
    opened = open_whole(convert(folder, tmp_path / "converted"))
    np.testing.assert_array_equal(opened.tensors[f"{NAME}.weight"].read(), made[1][f"{NAME}.weight"])
    findings = check(folder, tmp_path / "c", tmp_path / "e")
    assert not findings.problems
    assert any("4 bits, groups of 128, zero points (AWQ)" in text for _, text in findings.lines)


def test_tokens_are_the_twins(made, tmp_path):
    for name, source in (("ours", convert(write_awq(tmp_path / "q", made[0]), tmp_path / "converted")),
                         ("twin", write_checkpoint(tmp_path / "t", made[1], config=twin_config()))):
        export(("vision", "language"), source, tmp_path / name)
    expected = Engine(tmp_path / "twin", CPU).generate(PROMPTS, max_new_tokens=12)
    for weights, kept in (("auto", "int4z+float32"), ("float32", "float32")):
        engine = Engine(tmp_path / "ours", CPU, weights)
        assert engine.weights == kept and engine.generate(PROMPTS, max_new_tokens=12) == expected


SETTINGS = {
    "bits": ({"bits": 3}, "bits 3 (read are 4)"), "no bits": ({"bits": None}, "bits is missing"),
    "group": ({"group_size": 96}, "group_size 96"), "fraction": ({"group_size": 128.0}, "group_size 128.0"),
    "no zero points": ({"zero_point": False}, "zero_point False"),
    "version": ({"version": "gemv"}, "version 'gemv' (read is 'gemm')"),
    "no version": ({"version": None}, "version is missing"), "list": ({"version": ["gemm"]}, "version ['gemm']"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_are_not_read(damaged, kind):
    changed, words = SETTINGS[kind]
    message = fault(damaged(awq_config(**changed)))
    assert "says what is not read of AWQ" in message and words in message and "WEIGHTS=int4" in message


def test_two_configs_that_differ(damaged):
    folder = damaged()
    (folder / "quant_config.json").write_text(json.dumps({**OLDER, "q_group_size": 64}))
    assert "say different things" in fault(folder)
    folder = damaged(twin_config())
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert "quantize_config.json and" in fault(folder) and "say different things" in fault(folder)


PARTS = {   # part: (what is made of it, or None, what is said)
    "no scales": ("scales", None, "1 parts of quantised matrices missing: " + NAME + ".scales"),
    "short scales": ("scales", lambda a: a[:1], "float16 [1, 256] instead of float16 [2, 256]"),
    "wide scales": ("scales", lambda a: a.astype(np.float32), "float32 [2, 256] instead of float16"),
    "codes as GPTQ has them": ("qweight", lambda a: a.T, "int32 [32, 256] instead of int32 [256, 32]"),
    "zero points of another group": ("qzeros", lambda a: np.repeat(a, 2, 0), "[4, 32] instead of int32 [2, 32]"),
    "negative scales": ("scales", lambda a: -a, "512 scales that are zero or negative"),
    "NaN": ("scales", lambda a: np.where(np.arange(256) == 9, np.float16(np.nan), a), "holds NaN"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_that_break_the_layout(made, damaged, kind):
    part, change, words = PARTS[kind]
    name = f"{NAME}.{part}"
    message = fault(damaged(**{name: change and np.ascontiguousarray(change(made[0][name]))}))
    assert words in message and NAME in message, message


def test_names_and_configs_that_disagree(made, damaged, tmp_path):
    assert "no quantize_config.json or quant_config.json that says how: download it" in fault(damaged(twin_config()))
    message = fault(damaged(**{f"{NAME}.g_idx": np.zeros(256, np.int32)}))
    assert f"holds quantised weights (GPTQ: {NAME}.g_idx)" in message
    plain = write_checkpoint(tmp_path / "plain", made[1], config=awq_config())
    assert "10 matrices not quantised" in fault(plain) and "quant_config.json out of the folder" in fault(plain)
