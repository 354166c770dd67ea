"""Checkpoints in compressed-tensors' layout of 8-bit floating weights: what is read, that values stay as they are, and
what each bad file is called."""

import numpy as np
import pytest
from checkpoint_files import fault_of, one_line_error, run, write_checkpoint
from fp8_files import fp8_config, fp8_tensors, number, weights_changed, write_fp8
from quantised_files import NAME, PROMPTS, damager, twin_config

from core.placement import CPU
from export.__main__ import export
from export.check.__main__ import check
from export.checkpoint import open_whole
from export.convert import convert
from export.vocabulary import write_vocabulary
from infer.engine import Engine
from ops.quantisation import e4m3


@pytest.fixture(scope="module")
def made():
    """(tensors, tensors of the twin), which no test may change."""
    return fp8_tensors()


@pytest.fixture
def damaged(made, tmp_path):
    return damager(write_fp8, made[0], tmp_path / "bad")


def fault(folder):
    return fault_of(open_whole, folder)


def test_every_number_of_eight_bits():
    numbers = [code for code in range(256) if code & 0x7F != 0x7F]
    np.testing.assert_array_equal(e4m3(np.array(numbers, np.uint8)), [number(code) for code in numbers])


@pytest.mark.parametrize("scale_type", ["float32", "float16", "bfloat16"])
def test_values_are_those_of_the_twin_and_stay_so_in_converted_files(tmp_path, scale_type):
    tensors, twin = fp8_tensors(scale_type)
    source = write_fp8(tmp_path / "q", tensors)
    for opened in open_whole(source), open_whole(convert(source, tmp_path / "converted")):
        assert opened.tensors.keys() == twin.keys() and opened.quantised.floating
        for name, tensor in opened.tensors.items():
            np.testing.assert_array_equal(tensor.read(), twin[name], err_msg=name)
        codes = opened.tensors[f"{NAME}.weight"].codes()
        np.testing.assert_array_equal(codes.codes, tensors[f"{NAME}.weight"])


def test_check_reads_it(made, tmp_path):
    folder = write_fp8(tmp_path / "q", made[0])
    write_vocabulary(folder / "qwen.tiktoken", 480)
    findings = check(folder, tmp_path / "converted", tmp_path / "exported")
    assert not findings.problems
    assert any("the decoder's matrices in 8 bits, e4m3, a scale a row (compressed-tensors)" in text
               for _, text in findings.lines)


def test_tokens_are_the_twins_in_every_way_to_keep_them(made, tmp_path):
    for name, source in (("ours", convert(write_fp8(tmp_path / "q", made[0]), tmp_path / "converted")),
                         ("twin", write_checkpoint(tmp_path / "t", made[1], config=twin_config()))):
        export(("vision", "language"), source, tmp_path / name)
    expected = Engine(tmp_path / "twin", CPU).generate(PROMPTS, max_new_tokens=12)
    for weights, kept in (("auto", "fp8+float32"), ("fp8+float32", "fp8+float32"), ("float32", "float32")):
        engine = Engine(tmp_path / "ours", CPU, weights)
        assert engine.weights == kept and engine.generate(PROMPTS, max_new_tokens=12) == expected
    for weights in "int8", "int4":
        assert "are not rounded again: use WEIGHTS=auto" in fault_of(
            lambda folder, weights=weights: Engine(folder, CPU, weights), tmp_path / "ours")


def test_native_graphs_hold_the_products(made, tmp_path):
    for name, source in (("ours", write_fp8(tmp_path / "q", made[0])),
                         ("twin", write_checkpoint(tmp_path / "t", made[1], config=twin_config()))):
        export(("language",), source, tmp_path / name, impl="native")
    mine, theirs = (tmp_path / name / "language" / "model.pdiparams" for name in ("ours", "twin"))
    assert mine.read_bytes() == theirs.read_bytes()


SETTINGS = {
    "format": ({"format": "pack-quantized"}, "format 'pack-quantized' (read is 'float-quantized')"),
    "no format": ({"format": None}, "format is missing"),
    "no groups": ({"config_groups": {}}, "0 config_groups (read is 1)"),
    "groups as a list": ({"config_groups": [1]}, "0 config_groups"),
    "bits": ({"config_groups": weights_changed(num_bits=4)}, "num_bits of weights 4 (read is 8)"),
    "type": ({"config_groups": weights_changed(type="int")}, "type of weights 'int'"),
    "strategy": ({"config_groups": weights_changed(strategy="tensor")}, "strategy of weights 'tensor' (read is 'chan"),
    "zero points": ({"config_groups": weights_changed(symmetric=False)}, "symmetric of weights False"),
    "static activations": ({"config_groups": {"g": {"weights": weights_changed()["group_0"]["weights"],
                                                    "input_activations": {"dynamic": False}}}},
                           "input_activations that are not dynamic"),
    "cache": ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
    "sparse": ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
    "method": ({"quant_method": "fp8"}, "quantised (fp8)"),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_are_not_read(damaged, kind):
    changed, words = SETTINGS[kind]
    message = fault(damaged(fp8_config(**changed)))
    assert words in message and ("float16 one and WEIGHTS=fp8" in message) == (kind != "method"), message


def replaced(array, value, index):
    array = array.copy()
    array[index] = value
    return array


PARTS = {   # part: (what is made of it, or None, what is said)
    "no scales": ("weight_scale", None, "1 parts of quantised matrices missing: " + NAME + ".weight_scale"),
    "no weights": ("weight", None, "1 parts of quantised matrices missing: " + NAME + ".weight"),
    "short scales": ("weight_scale", lambda a: a[:9], "[9, 1] instead of float32 or float16 or bfloat16 [256, 1"),
    "a scale a tensor": ("weight_scale", lambda a: a[0], "float32 [1] instead of"),
    "scales of whole numbers": ("weight_scale", lambda a: a.astype(np.int32), "int32 [256, 1] instead of float32"),
    "another shape": ("weight", lambda a: a[:, :128], "float8_e4m3fn [256, 128] instead of float8_e4m3fn [256, 256]"),
    "in 32 bits": ("weight", lambda a: a.astype(np.int32), "int32 [256, 256] instead of float8_e4m3fn"),
    "a scale of zero": ("weight_scale", lambda a: replaced(a, 0, (7, 0)), "1 scales that are zero or negative"),
    "negative scales": ("weight_scale", lambda a: -a, "256 scales that are zero or negative"),
    "infinite scales": ("weight_scale", lambda a: replaced(a, np.inf, (7, 0)), "holds infinity (1 of 256"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_that_break_the_layout(made, damaged, kind):
    part, change, words = PARTS[kind]
    name = f"{NAME}.{part}"
    message = fault(damaged(**{name: change and np.ascontiguousarray(change(made[0][name]))}))
    assert words in message and NAME in message, message


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_a_code_that_is_no_number_stops_every_command_that_reads_values(made, damaged, tmp_path, code):
    name = f"{NAME}.weight"
    folder = damaged(**{name: replaced(made[0][name], code, (200, 3))})
    for command in ["-m", "export", "language"], ["-m", "export.convert"]:
        message = one_line_error(run(*command, folder, tmp_path / "out"))
        assert f"{name}' holds NaN (1 of 65536" in message and not list(tmp_path.glob("out/*"))


def test_names_and_configs_that_disagree(made, damaged, tmp_path):
    assert "holds quantised weights (8 bits: " in fault(damaged(twin_config()))
    plain = write_checkpoint(tmp_path / "plain", made[1], config=fp8_config())
    assert "10 matrices not quantised, which all of the decoder's must be" in fault(plain)
