"""Checkpoints in AutoGPTQ's layout: what is read, that values stay as they are, and what each bad file is called."""

import json

import numpy as np
import pytest
from checkpoint_files import fault_of, one_line_error, run, write_checkpoint
from gptq_files import CONFIG, gptq_config, gptq_tensors, quantised_matrix, write_gptq
from quantised_files import NAME, damager, twin_config

from export.check.__main__ import check
from export.checkpoint import open_whole
from export.convert import convert
from export.readers.quantised import QuantisedTensor
from export.vocabulary import write_vocabulary

KINDS = {"published": (4, 128, True), "groups of 64": (4, 64, True), "groups of 32": (4, 32, False),
         "a scale a row": (4, -1, True), "zero points": (4, 128, False), "8 bits": (8, 128, True),
         "8 bits, a scale a row": (8, -1, True)}


@pytest.fixture(scope="module")
def made():
    """(tensors, tensors of the twin) of the published kind, which no test may change."""
    return gptq_tensors()


@pytest.fixture
def damaged(made, tmp_path):
    return damager(write_gptq, made[0], tmp_path / "bad")


def fault(folder):
    message = fault_of(open_whole, folder)
    assert len(message) < 3000
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_dequantised_twin(tmp_path, kind):
    bits, group, symmetric = KINDS[kind]
    tensors, twin = gptq_tensors(bits, group, symmetric, seed=len(kind))
    opened = open_whole(write_gptq(tmp_path / "q", tensors, gptq_config(bits=bits, group_size=group, sym=symmetric)))
    assert opened.tensors.keys() == twin.keys()
    for name, tensor in opened.tensors.items():
        np.testing.assert_array_equal(tensor.read(), twin[name], err_msg=name)
    codes = opened.tensors[f"{NAME}.weight"].codes()
    assert (codes.zeros is None) == symmetric and codes.codes.min() == (-(1 << bits - 1) if symmetric else 0)


def test_shards_names_of_files_and_the_config_beside_them(made, tmp_path):
    names = open_whole(write_gptq(tmp_path / "shards", made[0], shards=5)).tensors.keys()
    beside = write_gptq(tmp_path / "beside", made[0], twin_config())
    (beside / "model.safetensors").rename(beside / "gptq_model-4bit-128g.safetensors")
    (beside / "quantize_config.json").write_text(json.dumps({key: CONFIG[key] for key in (
        "bits", "group_size", "desc_act", "sym")}))
    opened = open_whole(beside)
    assert opened.tensors.keys() == names and isinstance(opened.tensors[f"{NAME}.weight"], QuantisedTensor)


def test_a_bias_of_zeros_that_the_model_has_not_is_left_out(damaged):
    opened = open_whole(damaged(transformer__h__0__mlp__w1__bias=np.zeros(256, np.float16)))
    assert "transformer.h.0.mlp.w1.bias" not in opened.tensors
    assert "1 unexpected: transformer.h.0.mlp.w1.bias" in fault(
        damaged(transformer__h__0__mlp__w1__bias=np.ones(256, np.float16)))
    assert "1 unexpected: transformer.h.0.mlp.w1.bias" in fault(
        damaged(transformer__h__0__mlp__w1__bias=np.zeros(255, np.float16)))


def test_codes_travel_through_convert_unchanged(made, tmp_path):
    source = write_gptq(tmp_path / "q", made[0])
    converted = open_whole(convert(source, tmp_path / "converted"))
    assert converted.files[0].endswith(".pdparams") and converted.quantised
    for name, tensor in open_whole(source).tensors.items():
        for before, after in zip(tensor.stored, converted.tensors[name].stored, strict=True):
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before.read(), after.read() if isinstance(tensor, QuantisedTensor) else
                                          converted.tensors[name].read())


def test_check_reads_it(made, tmp_path):
    folder = write_gptq(tmp_path / "q", made[0])
    write_vocabulary(folder / "qwen.tiktoken", 480)
    findings = check(folder, tmp_path / "converted", tmp_path / "exported")
    assert not findings.problems
    assert any("float32; the decoder's matrices in 4 bits, groups of 128 (GPTQ)" in text for _, text in findings.lines)


SETTINGS = {
    "bits": ({"bits": 3}, "bits 3 (read are 4 and 8)"), "no bits": ({"bits": None}, "bits is missing"),
    "group": ({"group_size": 96}, "group_size 96"), "desc_act": ({"desc_act": True}, "desc_act True (columns in"),
    "no desc_act": ({"desc_act": None}, "desc_act is missing"), "sym": ({"sym": None}, "sym is missing"),
    "8 bits with zero points": ({"bits": 8, "sym": False}, "sym False with 8 bits"),
    "bits as a fraction": ({"bits": 4.0}, "bits 4.0 (read"), "list": ({"group_size": [128]}, "[128] (read"),
    "group as a fraction": ({"group_size": 128.0}, "group_size 128.0"), "sym as a number": ({"sym": 1}, "sym 1"),
    "version": ({"checkpoint_format": "gptq_v2"}, "checkpoint_format 'gptq_v2'"),
    "words": ({"pack_dtype": "int8"}, "pack_dtype 'int8'"), "dynamic": ({"dynamic": {"-:.*": {}}}, "dynamic"),
    "method": ({"quant_method": "hqq"}, "quantised (hqq)"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_are_not_read(damaged, kind):
    changed, words = SETTINGS[kind]
    message = fault(damaged(gptq_config(**changed)))
    assert words in message
    assert ("float16 one and WEIGHTS=int4" in message) == (kind != "method"), "a remedy"


def test_two_configs_that_differ(damaged):
    folder = damaged()
    (folder / "quantize_config.json").write_text(json.dumps({**CONFIG, "group_size": 64}))
    assert "say different things" in fault(folder)


def replaced(array, value, index=(3, 3)):
    array = array.copy()
    array[index] = value
    return array


PARTS = {   # part: (what is made of it, or None, what is said)
    "no scales": ("scales", None, "1 parts of quantised matrices missing: " + NAME + ".scales"),
    "short scales": ("scales", lambda a: a[:1], "float16 [1, 256] instead of float16 [2, 256]"),
    "scales in float32": ("scales", lambda a: a.astype(np.float32), "float32 [2, 256] instead of float16"),
    "wrong group": ("scales", lambda a: np.repeat(a, 2, 0), "[4, 256] instead of float16 [2, 256]"),
    "codes of another shape": ("qweight", lambda a: a.T, "int32 [256, 32] instead of int32 [32, 256]"),
    "codes as int64": ("qweight", lambda a: a.astype(np.int64), "int64 [32, 256] instead of int32"),
    "a scale of zero": ("scales", lambda a: replaced(a, 0, (1, 7)), "1 scales that are zero or negative"),
    "a negative scale": ("scales", lambda a: -a, "512 scales that are zero or negative"),
    "NaN": ("scales", lambda a: replaced(a, np.nan, (1, 7)), "holds NaN"),
    "infinity": ("scales", lambda a: replaced(a, np.inf, (1, 7)), "holds infinity"),
    "g_idx out of range": ("g_idx", lambda a: a + 1, "names groups from 1 to 2, there are 2"),
    "g_idx below zero": ("g_idx", lambda a: a - 1, "names groups from -1 to 0, there are 2"),
    "g_idx in another order": ("g_idx", lambda a: a[::-1], "has columns in another order (desc_act)"),
    "other zero points": ("qzeros", lambda a: a + 1, "holds 8 where symmetric weights have 7"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_that_break_the_layout(made, damaged, kind):
    part, change, words = PARTS[kind]
    name = f"{NAME}.{part}"
    message = fault(damaged(**{name: change and np.ascontiguousarray(change(made[0][name]))}))
    assert words in message and NAME in message, message


def test_a_zero_point_that_programs_read_differently(tmp_path):
    tensors, _ = gptq_tensors(symmetric=False)
    tensors[f"{NAME}.qzeros"] = replaced(tensors[f"{NAME}.qzeros"], -1, (0, 0))
    message = fault(write_gptq(tmp_path / "q", tensors, gptq_config(sym=False)))
    assert "holds the zero point 15 + 1, which programs read differently" in message and NAME in message


def test_matrices_that_are_not_quantised_and_others_that_are(made, damaged):
    parts = {f"{NAME}.{part}": None for part in ("qweight", "qzeros", "scales", "g_idx")}
    message = fault(damaged(**parts, **{f"{NAME}.weight": made[1][f"{NAME}.weight"]}))
    assert "1 matrices not quantised, which all of the decoder's must be: " + NAME in message
    extra, _ = quantised_matrix(np.random.default_rng(0), (512, 256), 4, 128, True)
    assert "4 unexpected: lm_head.g_idx" in fault(damaged(**{f"lm_head.{part}": a for part, a in extra.items()}))


def test_names_and_configs_that_disagree(made, damaged):
    assert "quantize_config.json that says how: download it" in fault(damaged(twin_config()))
    message = fault(write_checkpoint(damaged().parent / "plain", made[1], config=gptq_config()))
    assert "10 matrices not quantised" in message and "take quantization_config out of config.json" in message


@pytest.mark.parametrize("command", [["-m", "export", "all"], ["-m", "export.convert"]])
def test_commands_say_it_in_one_line(made, damaged, tmp_path, command):
    folder = damaged(**{f"{NAME}.g_idx": made[0][f"{NAME}.g_idx"] + 1})
    assert "names groups from 1 to 2" in one_line_error(run(*command, folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
