"""Conversion: names, layout and values; the input untouched; nothing else replaced."""

import json
import pickle
import shutil

import numpy as np
import pytest
from checkpoint_files import GOLDEN, copy_golden, golden_config, golden_tensors, one_line_error, run
from safetensors.numpy import save_file

from core.errors import UserError
from core.files import file_hash
from export import names
from export.checkpoint import open_checkpoint
from export.convert import convert
from export.vocabulary import write_vocabulary

EXPECTED_NAMES = {  # Hugging Face name -> Paddle name and whether it is transposed
    "transformer.wte.weight": ("qwen.wte.weight", False),
    "transformer.h.1.attn.c_attn.weight": ("qwen.h.1.attn.c_attn.weight", True),
    "transformer.h.1.attn.c_attn.bias": ("qwen.h.1.attn.c_attn.bias", False),
    "transformer.h.0.mlp.w2.weight": ("qwen.h.0.mlp.w2.weight", True),
    "transformer.ln_f.weight": ("qwen.ln_f.weight", False),
    "lm_head.weight": ("lm_head.weight", True),
    "transformer.visual.conv1.weight": ("visual.vit.conv1.weight", False),
    "transformer.visual.positional_embedding": ("visual.vit.positional_embedding", False),
    "transformer.visual.ln_pre.bias": ("visual.vit.ln_pre.bias", False),
    "transformer.visual.transformer.resblocks.1.attn.in_proj.weight":
        ("visual.vit.transformer.resblocks.1.attn.in_proj.weight", True),
    "transformer.visual.attn_pool.query": ("visual.attn_pool.query", False),
    "transformer.visual.attn_pool.pos_embed": ("visual.attn_pool.pos_embed", False),
    "transformer.visual.attn_pool.kv_proj.weight": ("visual.attn_pool.kv_proj.weight", True),
    "transformer.visual.attn_pool.attn.in_proj_weight": ("visual.attn_pool.attn.in_proj_weight", True),
    "transformer.visual.ln_post.weight": ("visual.ln_post.weight", False),
    "transformer.visual.proj": ("visual.proj", False),
}


def test_names_layout_and_values(tmp_path):
    convert(GOLDEN, tmp_path / "out")
    with open(tmp_path / "out" / "model_state.pdparams", "rb") as file:
        written = pickle.load(file)  # our own file
    arrays = golden_tensors()
    assert len(written) == len(arrays) == 61
    for name, (paddle_name, transposed) in EXPECTED_NAMES.items():
        np.testing.assert_array_equal(written[paddle_name], arrays[name].T if transposed else arrays[name])
    assert sum(a.size for a in written.values()) == sum(a.size for a in arrays.values())
    assert (tmp_path / "out" / "config.json").read_bytes() == (GOLDEN / "config.json").read_bytes()


def test_converting_again_changes_nothing(tmp_path):
    convert(GOLDEN, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/model_state.pdparams").read_bytes() == (tmp_path / "b/model_state.pdparams").read_bytes()
    assert open_checkpoint(tmp_path / "b").hash() == open_checkpoint(GOLDEN).hash()


@pytest.mark.parametrize("damage, words", [
    (lambda text: text[:len(text) // 2] + b"*\n", "line .*not a token in base64 and its rank"),
    (lambda text: text.partition(b"\n")[2], "ranks are not 0 to"),
    (lambda text: b"".join(text.splitlines(keepends=True)[:-3]), "cut off, or another model's"),
    (lambda _: b"", "damaged"),
])
def test_a_damaged_vocabulary_is_refused_before_anything_is_written(tmp_path, damage, words):
    folder = copy_golden(tmp_path / "checkpoint")
    path = folder / "qwen.tiktoken"
    write_vocabulary(path, open_checkpoint(folder).config.image_start_id)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{words}.*; download it again"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_weights_have_a_hash_of_their_own(tmp_path):
    convert(GOLDEN, tmp_path / "a")
    with open(tmp_path / "a" / "model_state.pdparams", "r+b") as file:
        file.seek(5_000_000)
        file.write(b"\0\0\0\1")
    assert open_checkpoint(tmp_path / "a").hash() != open_checkpoint(GOLDEN).hash()


@pytest.mark.parametrize("prefix", ["transformer.", "transformer.llm."])
def test_published_paddle_names_become_qwen(tmp_path, prefix):
    convert(GOLDEN, tmp_path / "a")
    with open(tmp_path / "a" / "model_state.pdparams", "rb") as file:
        arrays = {name.replace("qwen.", prefix): array for name, array in pickle.load(file).items()}
    published = tmp_path / "published"
    published.mkdir()
    shutil.copyfile(GOLDEN / "config.json", published / "config.json")
    (published / "model_state.pdparams").write_bytes(pickle.dumps(arrays, protocol=4))
    convert(published, tmp_path / "b")
    assert (tmp_path / "a/model_state.pdparams").read_bytes() == (tmp_path / "b/model_state.pdparams").read_bytes()


def test_half_precision_is_kept(tmp_path):
    folder = tmp_path / "half"
    folder.mkdir()
    arrays = {name: array.astype(np.float16) for name, array in golden_tensors().items()}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(golden_config()))
    convert(folder, tmp_path / "out")
    with open(tmp_path / "out" / "model_state.pdparams", "rb") as file:
        written = pickle.load(file)
    assert {a.dtype for a in written.values()} == {np.dtype(np.float16)}
    np.testing.assert_array_equal(written["lm_head.weight"], arrays["lm_head.weight"].T)


def test_the_input_is_never_touched(tmp_path):
    source = copy_golden(tmp_path / "source")
    write_vocabulary(source / "qwen.tiktoken", open_checkpoint(source).config.image_start_id)
    before = {p.name: (file_hash(p), p.stat().st_mtime_ns) for p in source.iterdir()}
    convert(source, tmp_path / "out")
    for out in (source, source / "inside", tmp_path):
        assert "choose another OUT=" in one_line_error(run("-m", "export.convert", source, out))
    assert before == {p.name: (file_hash(p), p.stat().st_mtime_ns) for p in source.iterdir()}
    assert (tmp_path / "out" / "qwen.tiktoken").read_bytes() == (source / "qwen.tiktoken").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    message = one_line_error(run("-m", "export.convert", GOLDEN, tmp_path / "mine"))
    assert "choose another OUT=" in message
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("text")
    assert "is a file" in one_line_error(run("-m", "export.convert", GOLDEN, tmp_path / "file"))


def test_every_parameter_has_its_own_paddle_name():
    found = names.parameters(open_checkpoint(GOLDEN).config)
    assert len({p.paddle_name for p in found}) == len(found) == 61
