"""Synthetic checkpoints: the published layout, the same bytes every time, and a vocabulary that fits."""

import base64
import json

import numpy as np
import pytest
from checkpoint_files import GOLDEN, one_line_error, run
from safetensors import safe_open

from core.config import ModelConfig
from core.errors import UserError
from export import vocabulary
from export.checkpoint import open_checkpoint
from export.names import parameters
from export.synthetic import PRESETS, presets, sin_cos_table, write_checkpoint
from export.vocabulary import write_vocabulary
from infer.tokenizer import Tokenizer
from ops import formats

PUBLISHED_7B_VALUES = 9_656_935_168


def geometry(preset):
    return ModelConfig.from_dict(json.loads((PRESETS / f"{preset}.json").read_text()))


def test_the_tiny_preset_has_the_golden_tensors(tmp_path):
    write_checkpoint("tiny", tmp_path / "c")
    assert geometry("tiny") == ModelConfig.load(GOLDEN)
    with (safe_open(tmp_path / "c" / "model.safetensors", "np") as made,
          safe_open(GOLDEN / "model.safetensors", "np") as golden):
        assert sorted(made.keys()) == sorted(golden.keys()) and made.metadata() == golden.metadata()
        for name in golden.keys():  # noqa: SIM118  not a dictionary
            values = made.get_tensor(name)
            assert values.shape == golden.get_tensor(name).shape and values.dtype == np.float32
            assert np.isfinite(values).all() and np.count_nonzero(values) > 0.9 * values.size and values.std() > 0


def test_the_same_bytes_every_time_and_others_for_another_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_checkpoint("tiny", tmp_path / name, seed)
    read = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert read[0] == read[1] != read[2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(tmp_path, dtype):
    write_checkpoint("tiny", tmp_path / "c", dtype=dtype)
    checkpoint = open_checkpoint(tmp_path / "c")
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {dtype}
    assert json.loads((tmp_path / "c" / "config.json").read_text())["torch_dtype"] == dtype
    assert checkpoint.synthetic and not open_checkpoint(GOLDEN).synthetic


def test_one_that_has_lost_its_weights_is_made_again(tmp_path):
    write_checkpoint("tiny", tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").unlink()
    assert (write_checkpoint("tiny", tmp_path / "tiny") / "model.safetensors").is_file()


@pytest.mark.parametrize("config", ["{}", "[]", "[" * 100_000, None])
def test_a_checkpoint_that_is_not_random_is_never_replaced(tmp_path, config):
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="choose another OUT="):
        write_checkpoint("tiny", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


def test_float16_holds_what_bfloat16_does(tmp_path):
    for dtype in ("float16", "bfloat16"):
        write_checkpoint("tiny", tmp_path / dtype, dtype=dtype)
    made, published = (open_checkpoint(tmp_path / dtype) for dtype in ("float16", "bfloat16"))
    for name in published.tensors:
        values = formats.get("bfloat16").unpack(published.tensors[name].read())
        np.testing.assert_array_equal(made.tensors[name].read(), values.astype(np.float16))


def test_resampler_positions_follow_the_published_table():
    width, grid = 16, 4
    table = sin_cos_table(width, grid)
    for row in range(grid):
        for column in range(grid):
            for i in range(width // 4):
                frequency = 10000 ** (-i / (width // 4))
                expected = [np.sin(column * frequency), np.cos(column * frequency),
                            np.sin(row * frequency), np.cos(row * frequency)]
                np.testing.assert_allclose(table[row * grid + column, i::width // 4], expected, atol=1e-6)


@pytest.mark.parametrize("preset", ["tiny", "small", "7b"])
def test_special_ids_follow_the_vocabulary_of_bytes(tmp_path, monkeypatch, preset):
    monkeypatch.setattr(vocabulary, "published_vocabulary", lambda: None)
    config = geometry(preset)
    write_vocabulary(tmp_path / "qwen.tiktoken", config.image_start_id)
    lines = (tmp_path / "qwen.tiktoken").read_bytes().splitlines()
    assert [base64.b64decode(line.split()[0]) for line in lines[:256]] == [bytes([i]) for i in range(256)]
    assert [int(line.split()[1]) for line in lines] == list(range(config.image_start_id - 214))
    assert config.image_start_id + 2 < config.vocab_size
    tokenizer = Tokenizer(tmp_path / "qwen.tiktoken", config.image_start_id)
    text = "Ein Foto, 写真! [300] token"
    ids = tokenizer.encode(text)
    assert ids == list(text.encode()) and tokenizer.decode(ids) == text


def test_no_room_for_the_special_ids(tmp_path):
    with pytest.raises(UserError, match="no room"):
        write_vocabulary(tmp_path / "qwen.tiktoken", 300)


def test_presets_describe_what_they_say():
    assert presets() == ["7b", "small", "tiny"]
    assert geometry("small").image_start_id == 470
    assert sum(int(np.prod(p.shape)) for p in parameters(geometry("7b"))) == PUBLISHED_7B_VALUES
    assert sum(int(np.prod(p.shape)) for p in parameters(geometry("small"))) * 4 < 150e6


def test_bad_options_end_in_one_line(tmp_path):
    assert "tiny" in one_line_error(run("-m", "export.synthetic", "--preset", "huge", tmp_path / "c"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    assert "OUT=" in one_line_error(run("-m", "export.synthetic", "--preset", "tiny", tmp_path / "mine"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
