"""What is no plain checkpoint is named in one line that says what to do, by every command and before it begins."""

import json

import numpy as np
import pytest
from checkpoint_files import GOLDEN, copy_golden, golden_config, golden_tensors, one_line_error, run, write_checkpoint
from makes import run_make
from safetensors.numpy import save_file

from core.errors import UserError
from export.check.__main__ import check
from export.checkpoint import open_checkpoint
from export.convert import convert

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123000000\n"
SAFE_INDEX, BIN_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"


def adapter(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    save_file({"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": np.ones((2, 2), np.float32)},
              folder / "adapter_model.safetensors")
    return folder


def adapter_beside_weights(folder):
    copy_golden(folder)
    (folder / "adapter_config.json").write_text("{")
    return folder


def with_config(**more):
    return lambda folder: write_checkpoint(folder, golden_tensors(), config={**golden_config(), **more})


def with_names(*added):
    return lambda folder: write_checkpoint(folder, {**golden_tensors(), **{
        name: np.ones((2, 2), np.float32) for name in added}})


def renamed(change):
    return lambda folder: write_checkpoint(folder, {change(name): array for name, array in golden_tensors().items()})


def with_file(name, content="{}"):
    def make(folder):
        copy_golden(folder)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(content)
        return folder
    return make


def with_index(index, *shards):
    return with_file(index, json.dumps({"weight_map": {f"t{i}": shard for i, shard in enumerate(shards)}}))


def index_of_another_format(folder):
    with_index(SAFE_INDEX, "model-00001-of-00001.safetensors")(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def without_weights(name):
    def make(folder):
        copy_golden(folder)
        (folder / "model.safetensors").rename(folder / name)
        return folder
    return make


LAYER = "transformer.h.0.attn.c_attn."
KINDS = {
    "adapter": (adapter, "an adapter of peft (LORA)", "merge_and_unload"),
    "adapter beside weights": (adapter_beside_weights, "merge_and_unload", "move adapter_config.json out"),
    "adapter not merged": (with_names(LAYER + "lora_A.default.weight"), "is not merged", "merge_and_unload"),
    "GPTQ by config": (with_config(quantization_config={"quant_method": "gptq"}), "not read of GPTQ: bits is missing",
                       "WEIGHTS=int4"),
    "bitsandbytes by config": (with_config(quantization_config={"bnb_4bit_quant_type": "nf4"}), "(bitsandbytes)",
                               "dequantise"),
    "odd config": (with_config(quantization_config=[1]), "quantised (some method)", "download"),
    "GPTQ by file": (with_file("quantize_config.json"), "quantize_config.json says what is not read of GPTQ", "bits"),
    "AWQ by file": (with_file("quant_config.json"), "quant_config.json says what is not read of AWQ", "bits"),
    "GPTQ by names": (with_names(LAYER + "qweight", LAYER + "g_idx"), "weights (GPTQ: ", "download"),
    "AWQ by names": (with_names(LAYER + "qweight", LAYER + "qzeros"), "weights (GPTQ or AWQ: ", "dequantise"),
    "bitsandbytes by names": (with_names(LAYER + "weight.absmax"), "weights (bitsandbytes: ", "dequantise"),
    "8 bits by names": (with_names(LAYER + "weight_scale"), "weights (8 bits: ", "dequantise"),
    "GGUF": (without_weights("qwen.gguf"), "GGUF", "download"),
    "DeepSpeed": (without_weights("zero_to_fp32.py"), "DeepSpeed", "run its zero_to_fp32.py"),
    "no index": (without_weights("pytorch_model-00001-of-00002.bin"), "without their index", f"download {BIN_INDEX}"),
    "prefix of some": (renamed(lambda name: name if name.startswith("lm_head") else "module." + name),
                       "module. (60 tensors), nothing (1 tensor)", "state_dict()"),
    "two models": (with_names("ema.transformer.wte.weight"), "nothing (61 tensors), ema. (1 tensor)", "state_dict()"),
    "wrapped inside": (renamed(lambda name: name.replace("transformer.h.0.", "transformer.h.0._orig_mod.")),
                       "'_orig_mod', left by torch.compile", "take '_orig_mod.' out"),
    "pointer for the weights": (with_file("model.safetensors", POINTER), "1 Git LFS pointers instead of files of 0.1",
                                "git lfs pull"),
    "pointer for the vocabulary": (with_file("qwen.tiktoken", POINTER), "Git LFS", "git lfs pull"),
    "pointer for config.json": (with_file("config.json", POINTER), "Git LFS", "git lfs pull"),
    "stale index of another format": (index_of_another_format, "names 1 other file, 1 missing",
                                      "delete the stale index to use pytorch_model.bin"),
    "stale index": (with_index(SAFE_INDEX, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
                    "names 2 other files, 2 missing", "delete the stale index to use model.safetensors"),
    "settings": (with_config(tie_word_embeddings=True), "tie_word_embeddings is True", "only False is supported"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    return {name: make(root / name.replace(" ", "-")) for name, (make, *_) in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named_with_its_remedy(folders, kind):
    with pytest.raises(UserError) as caught:
        open_checkpoint(folders[kind])
    message = str(caught.value)
    assert all(words in message for words in KINDS[kind][1:]), message
    assert message.isprintable() and len(message) < 700 and folders[kind].name in message


@pytest.mark.parametrize("kind", KINDS)
def test_check_says_the_same(folders, kind):
    """All but the vocabulary, which the golden checkpoint lacks, is told in one line."""
    with pytest.raises(UserError) as caught:
        open_checkpoint(folders[kind])
    found = check(folders[kind], folders[kind] / "c", folders[kind] / "e")
    problems = [text for text in found.problems if not text.startswith(("no vocabulary", "qwen.tiktoken"))]
    assert problems == [str(caught.value)]
    assert [text for line, text in found.lines if line == "next"] == [
        f"mend the above, then: make check CKPT={folders[kind]}"]


@pytest.mark.parametrize("command", [
    ["export.convert", "CKPT", "out"], ["export", "all", "CKPT", "out"],
    ["bench", "baseline", "--checkpoint", "CKPT"], ["bench", "run", "--checkpoint", "CKPT", "--out", "out"],
    ["bench", "reproduce", "--checkpoint", "CKPT", "--out", "out", "--exported-fused", "."],
    ["bench", "compare", "--checkpoint", "CKPT", "--out", "out", "--base", "HEAD", "--build", "out"]])
def test_every_command_says_it_first(folders, tmp_path, command):
    words = [str(folders["adapter"]) if word == "CKPT" else str(tmp_path / word) if word == "out" else word
             for word in command]
    assert "merge_and_unload" in one_line_error(run("-m", *words))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", ["adapter", "GPTQ by file", "stale index"])
def test_make_says_it_before_it_converts(folders, tmp_path, kind):
    done = run_make("-s", "bench", f"CKPT={folders[kind]}", f"BUILD={tmp_path}")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode and len(errors) == 1 and KINDS[kind][1] in errors[0], done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"stamps", "converted"}
    assert not any((tmp_path / "converted").rglob("*"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "model.", "module._orig_mod."])
def test_a_prefix_of_every_tensor_is_left_out_and_told(tmp_path, capsys, prefix):
    folder = renamed(lambda name: prefix + name)(tmp_path / "c")
    note = open_checkpoint(folder).note
    assert repr(prefix) in note and open_checkpoint(GOLDEN).note == ""
    found = check(folder, tmp_path / "converted", tmp_path / "e")
    assert note in [text for kind, text in found.lines if kind == "note"]
    written = [(convert(path, tmp_path / "out") / "model_state.pdparams").read_bytes() for path in (GOLDEN, folder)]
    assert written[0] == written[1] and capsys.readouterr().out.splitlines().count(note) == 1


def test_pointers_that_are_not_read_do_no_harm(tmp_path):
    """The other format of a repository that was cloned without it, and its font."""
    folder = copy_golden(tmp_path / "c")
    for name in ("pytorch_model.bin", "SimSun.ttf"):
        (folder / name).write_text(POINTER)
    assert len(open_checkpoint(folder).tensors) == 61


def test_an_index_that_names_the_whole_file(tmp_path):
    folder = copy_golden(tmp_path / "c")
    (folder / SAFE_INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(golden_tensors(), "model.safetensors")}))
    assert len(open_checkpoint(folder).tensors) == 61


def test_two_whole_sets_of_one_format(tmp_path):
    folder = with_index(SAFE_INDEX, "model-00001-of-00001.safetensors")(tmp_path / "c")
    (folder / "model-00001-of-00001.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="0 missing.*delete model.safetensors to use its files"):
        open_checkpoint(folder)
