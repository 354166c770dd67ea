"""Every published format gives the golden checkpoint's tensors; the reference is the safetensors library."""

import json
import pickle
import struct

import numpy as np
import pytest
from checkpoint_files import (
    GOLDEN,
    bfloat16_bits,
    golden_config,
    golden_tensors,
    paddle_arrays,
    run_code,
    save_torch,
    write_checkpoint,
)
from safetensors.numpy import save_file

from export.checkpoint import open_checkpoint


def assert_golden(folder, convert=lambda array: array):
    tensors, expected = open_checkpoint(folder).tensors, golden_tensors()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), convert(expected[name]), err_msg=name)
        np.testing.assert_array_equal(np.concatenate(list(tensor.blocks())), tensor.read(), err_msg=name)


def test_one_safetensors_file():
    assert_golden(GOLDEN)


def test_sharded_safetensors(tmp_path):
    arrays = golden_tensors()
    places = {name: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, name in enumerate(arrays)}
    for shard in set(places.values()):
        save_file({n: arrays[n] for n in arrays if places[n] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    assert_golden(tmp_path)


TORCH_FORMS = ["sharded", "module", "shared", "float32"]


@pytest.fixture(scope="module")
def torch_saved(tmp_path_factory):
    """{form: folder} of what torch has saved."""
    return save_torch(tmp_path_factory.mktemp("torch"), *TORCH_FORMS, "bfloat16")


@pytest.mark.parametrize("form", TORCH_FORMS)
def test_torch_files(torch_saved, form):
    assert_golden(torch_saved[form])


def test_torch_bfloat16(torch_saved):
    tensor = open_checkpoint(torch_saved["bfloat16"]).tensors["lm_head.weight"]
    expected = bfloat16_bits(golden_tensors()["lm_head.weight"])
    assert tensor.dtype == "bfloat16"
    assert np.abs(tensor.read().astype(int) - expected).max() <= 1  # torch rounds, the reference cuts


@pytest.mark.parametrize("prefix", ["transformer.", "transformer.llm.", "qwen."])
@pytest.mark.parametrize("protocol", [3, 4])
def test_pickled_arrays(tmp_path, prefix, protocol):
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    saved = {**paddle_arrays(prefix), "StructuredToParameterName@@": {"lm_head.weight": "linear_0.w_0"}}
    (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps(saved, protocol=protocol))
    assert_golden(tmp_path)


def test_arrays_stored_column_after_column(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    saved = {name: np.asfortranarray(array) for name, array in paddle_arrays("qwen.").items()}
    (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps(saved, protocol=4))
    assert_golden(tmp_path)


def test_the_other_numpys_spelling(tmp_path):
    """Which numpy 1 and 2 have of a name; the one at hand writes its own."""
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    raw = pickle.dumps(paddle_arrays("qwen."), protocol=4)
    spellings = [b"\x8c" + bytes([len(name)]) + name for name in (b"numpy.core.multiarray", b"numpy._core.multiarray")]
    written, other = spellings if spellings[0] in raw else spellings[::-1]
    assert raw.count(written) == 1 and raw.index(written) < 1 << 16
    raw = _longer_frame(raw, len(other) - len(written)).replace(written, other)
    (tmp_path / "model_state.pdparams").write_bytes(raw)
    assert_golden(tmp_path)


def _longer_frame(raw, more):
    """The first frame's length raised by the bytes that the other name takes."""
    length, = struct.unpack_from("<Q", raw, 3)
    return raw[:3] + struct.pack("<Q", length + more) + raw[11:]


PADDLE = """
import pickle, sys, zlib, paddle
source, out = sys.argv[1:]
arrays = pickle.load(open(source, "rb"))
tensors = {n: paddle.to_tensor(a) for n, a in arrays.items()}
tensors["lm_head.weight"] = tensors["lm_head.weight"].astype("bfloat16")
paddle.save(tensors, out + "/model_state.pdparams")
"""


def test_what_paddle_saves(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    (tmp_path / "arrays").write_bytes(pickle.dumps(paddle_arrays("transformer.")))
    run_code(PADDLE, tmp_path / "arrays", tmp_path)
    tensors, expected = open_checkpoint(tmp_path).tensors, golden_tensors()
    head = tensors.pop("lm_head.weight")
    assert head.dtype == "bfloat16" and head.shape == (512, 256)
    assert np.abs(head.read().astype(int) - bfloat16_bits(expected["lm_head.weight"])).max() <= 1
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[name], err_msg=name)


def test_harmless_buffers_are_ignored(tmp_path):
    arrays = {**golden_tensors(), "transformer.h.0.attn.rotary_emb.inv_freq": np.ones(64, np.float32),
              "transformer.h.1.attn.masked_bias": np.ones(1, np.float32),
              "transformer.h.1.attn.bias": np.ones((1, 1, 4, 4), np.bool_)}
    assert_golden(write_checkpoint(tmp_path / "c", arrays))


def test_rows_are_read_alone(tmp_path):
    tensors = open_checkpoint(GOLDEN).tensors
    expected = golden_tensors()["transformer.wte.weight"]
    np.testing.assert_array_equal(tensors["transformer.wte.weight"].rows(3, 7), expected[3:7])
    np.testing.assert_array_equal(tensors["transformer.wte.weight"].transposed.rows(3, 7), expected.T[3:7])


def test_a_pdparams_file_of_15_gigabytes_opens_without_reading_it(tmp_path):
    from export.pdparams_writer import Writer
    from export.readers import pdparams
    path = tmp_path / "model_state.pdparams"
    values = 15_000_000_000 // 4
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.begin("large", (values // 1000, 1000), "float32", values * 4)
        file.seek(values * 4, 1)  # a hole: the file takes no room on disk
        writer._left = 0
        writer.begin("small", (2,), "float32", 8)
        writer.write(np.array([1, 2], np.float32))
        writer.close()
    tensors = pdparams.read(path)
    assert tensors["large"].shape == (values // 1000, 1000)
    np.testing.assert_array_equal(tensors["small"].read(), [1, 2])
    np.testing.assert_array_equal(tensors["large"].rows(5, 6), np.zeros((1, 1000)))
