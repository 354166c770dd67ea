"""Every operator of paddlenlp_ops and fused_ln against numpy on the CPU, in dynamic and in static mode."""

import subprocess
import sys

import numpy as np
import pytest
from stock_cases import all_cases
from stock_operators import check, function, paddle, to_device

CASES = list(all_cases())
OPERATORS = sorted({case.operator for case in CASES})


@pytest.fixture(autouse=True)
def packages(stock_packages, monkeypatch):
    """The built packages, importable."""
    monkeypatch.syspath_prepend(stock_packages)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator_against_numpy(operator):
    for case in CASES:
        if case.operator == operator:
            check(case, "cpu")


def test_every_name_that_paddlenlp_imports_is_there():
    import paddlenlp_ops

    needed = set("""dequant_int8 encode_rotary_qk qkv_transpose_split quant_int8 rebuild_padding rebuild_padding_v2
        transpose_remove_padding write_cache_kv fused_get_rotary_embedding get_padding_offset get_padding_offset_v2
        get_token_penalty_multi_scores get_token_penalty_multi_scores_v2 save_output save_with_output
        set_stop_value_multi_ends set_stop_value_multi_ends_v2 set_value_by_flags_and_idx
        set_value_by_flags_and_idx_v2 update_inputs""".split())
    assert needed <= set(dir(paddlenlp_ops))
    covered = set(OPERATORS) | {"save_with_output"}
    for name in needed - covered:
        with pytest.raises(NotImplementedError, match=name):
            getattr(paddlenlp_ops, name)(1, x=2)


def test_save_with_output_writes_what_the_published_reader_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokens = np.array([[5], [-1], [151643]], np.int64)
    numbers = [to_device(np.array([value], dtype), None, "cpu") for value, dtype in ((-1, np.int32), (4, np.int64))]
    out = function("save_with_output")(to_device(tokens, None, "cpu"), *numbers, "folder/ids", 0)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["ids_rank_0_step_4"]
    content = (tmp_path / "folder" / "ids_rank_0_step_4").read_bytes()
    assert content[:2] == b"11" and (np.frombuffer(content[2:], np.int64) == tokens.ravel()).all()
    assert (out.numpy() == tokens).all()
    function("save_with_output")(to_device(np.ones(2, np.float32), None, "cpu"),
                                 *(to_device(np.array([7], d), None, "cpu") for d in (np.int32, np.int64)), "x", -1)
    assert (tmp_path / "x_batch_7_step_7").read_bytes() == b"10" + np.ones(2, np.float32).tobytes()


@pytest.mark.parametrize("name, change, message", [
    ("write_cache_kv", {3: np.array([1], np.int64)}, "sequence_lengths has type int64"),
    ("qkv_transpose_split", {0: np.zeros([7, 5], np.float32)}, "qkv has shape"),
    ("get_padding_offset", {2: np.array(99, np.int64)}, "token_num is 99, expected 1 to 7"),
    ("get_padding_offset", {2: np.array(0, np.int64)}, "token_num is 0"),
    ("fused_get_rotary_embedding", {1: np.zeros([1, 0], np.int64)}, "position_ids has shape"),
    ("set_stop_value_multi_ends", {2: np.zeros([0], np.int64)}, "end_ids is empty"),
    ("fused_rms_norm", {1: np.zeros([3], np.float32)}, "scale has shape"),
])
def test_wrong_arguments_are_named(name, change, message):
    case = next(case for case in CASES if case.operator == name)
    tensors = [to_device(change.get(place, array), None, "cpu") for place, array in enumerate(case.inputs)]
    with pytest.raises((ValueError, RuntimeError, OSError), match=message):
        function(name)(*tensors, **case.attributes)


@pytest.mark.parametrize("operator", ["qkv_transpose_split", "encode_rotary_qk", "write_cache_kv", "fused_rms_norm",
                                      "set_stop_value_multi_ends", "get_padding_offset"])
def test_static_mode(operator):
    """A static program gives the same, in-place outputs in the variable of their input."""
    call = function(operator)
    case = next(case for case in CASES if case.operator == operator and case.dtype == "float32")
    paddle.enable_static()
    try:
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            data = [paddle.static.data(f"x{place}", array.shape, str(array.dtype))
                    for place, array in enumerate(case.inputs)]
            outputs = call(*data, **case.attributes)
            outputs = outputs if isinstance(outputs, list) else [outputs]
        found = paddle.static.Executor(paddle.CPUPlace()).run(
            program, feed={f"x{place}": array.copy() for place, array in enumerate(case.inputs)},
            fetch_list=[*outputs, *(data[place] for place in case.inplace)])
    finally:
        paddle.disable_static()
    relative, absolute = case.close
    for array, expected in zip(found, [*case.expected, *case.inplace.values()], strict=True):
        np.testing.assert_allclose(array, expected, rtol=relative, atol=max(absolute, 1e-6))


def test_another_paddle_is_refused(stock_packages):
    code = ("import zlib, paddle; paddle.__version__ = '2.6.0'\n"
            "try: import paddlenlp_ops\nexcept ImportError as e: print(e)")
    done = subprocess.run([sys.executable, "-c", code], cwd=stock_packages, capture_output=True, text=True)
    assert "built for paddlepaddle 2.6.2, this is paddlepaddle 2.6.0: run `make ops`" in done.stdout
