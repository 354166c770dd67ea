"""Damaged and hostile checkpoint files: every reader gives tensors that lie in their file, or one line."""

import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import golden_config
from fuzzing import JSON, changed, damaged, fuzz, survives
from hypothesis import example, given
from hypothesis import strategies as st
from published_checkpoint import state_dict_pickle, write_bin, write_safetensors

from core.config import ModelConfig
from core.ranks import read_ranks
from export import plain
from export.check.__main__ import check
from export.checkpoint import open_checkpoint
from export.readers import pdparams, safetensors, sharded, torch_bin

FOUND = {"a.weight": ("F32", (3, 4)), "b.weight": ("BF16", (5,)), "c": ("F16", ())}
ARRAYS = {"a": np.ones((3, 4), np.float32), "b": np.asfortranarray(np.ones((4, 2), np.float16)), "c": ("n", np.ones(2))}
PDPARAMS = pickle.dumps(ARRAYS, protocol=4)
WORDS = [getattr(pickle, name) for name in dir(pickle) if name.isupper() and isinstance(getattr(pickle, name), bytes)]
GLOBALS = [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cbuiltins\ntuple\n", b"ccollections\nOrderedDict\n",
           b"cnumpy.core.multiarray\n_reconstruct\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
           b"ctorch._utils\n_rebuild_parameter\n", b"cos\nsystem\n"]
PICKLES = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(GLOBALS), st.binary(max_size=4),
                             st.sampled_from([b"K\x01", b"X\x01\x00\x00\x00a", b"C\x02xy", b"q\x00", b"h\x00"])),
                   max_size=30).map(lambda parts: b"\x80\x04" + b"".join(parts) + b".")
pytestmark = pytest.mark.usefixtures("limited_memory")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


def content(write):
    """The bytes that `write` puts into a file for FOUND."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file", FOUND)
        return (Path(folder) / "file").read_bytes()


def read_back(path, raw, read):
    """Read `raw` with a reader; what it gives must be readable whole."""
    path.write_bytes(raw)
    tensors = survives(read, path)
    for tensor in (tensors or {}).values():
        array = survives(tensor.read)
        assert array is None or array.nbytes <= 1 << 20 or array.strides.count(0)


SAFETENSORS, BIN = content(write_safetensors), content(write_bin)
HEADER = json.loads(SAFETENSORS[8:8 + struct.unpack("<Q", SAFETENSORS[:8])[0]])


def test_the_files_are_sound_before_they_are_damaged(path):
    for raw, read in ((SAFETENSORS, safetensors.read), (BIN, torch_bin.read), (PDPARAMS, pdparams.read)):
        path.write_bytes(raw)
        assert len(read(path)) == 3


@fuzz(100)
@given(damaged(SAFETENSORS))
def test_safetensors_bytes(path, raw):
    read_back(path, raw, safetensors.read)


@fuzz(100)
@given(changed(HEADER))
@example({"a": {"dtype": "\x1b[2J", "shape": [1], "data_offsets": [0, 4]}})
@example({"a": {"dtype": "F32", "shape": [0, 1 << 63], "data_offsets": [0, 0]}})
@example({"a": {"dtype": "F32", "shape": [0, 1 << 47, 1 << 47], "data_offsets": [0, 0]}})
def test_safetensors_headers(path, header):
    raw = json.dumps(header).encode()
    read_back(path, struct.pack("<Q", len(raw)) + raw + bytes(100), safetensors.read)


@fuzz(100)
@given(damaged(BIN))
def test_torch_bytes(path, raw):
    read_back(path, raw, torch_bin.read)


@fuzz(100)
@given(st.one_of(damaged(state_dict_pickle(FOUND)), PICKLES))
def test_torch_pickles(path, raw):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        for key in range(3):
            archive.writestr(f"archive/data/{key}", bytes(64))
    read_back(path, path.read_bytes(), torch_bin.read)


@fuzz(150)
@given(st.one_of(damaged(PDPARAMS), PICKLES))
def test_pdparams(path, raw):
    read_back(path, raw, pdparams.read)


@fuzz(100)
@given(st.one_of(changed({"metadata": {"total_size": 1}, "weight_map": {"a": "1.bin", "b": "2.bin"}}).map(
    lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
def test_index(path, raw):
    path.write_bytes(raw)
    places = survives(sharded.places, path)
    assert places is None or all("/" not in shard for shard in places.values())


@fuzz(150)
@given(st.one_of(changed(golden_config()).map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
def test_config(path, raw):
    folder = path.parent / "config"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(raw)
    config = survives(ModelConfig.load, folder)
    assert config is None or ModelConfig.from_dict(config.to_dict()) == config


@fuzz(100)
@given(st.lists(st.one_of(st.text(max_size=12), st.lists(st.sampled_from(
    ["module", "_orig_mod", "base_model", "transformer", "visual", "qwen", "lm_head", "weight", "qweight", "lora_A", "",
     "\x1b[2J", "\n"]), max_size=5).map(".".join)), max_size=6))
def test_names(names):
    """Names of every kind: a prefix that all have, none, or one line."""
    found = survives(plain.prefix, "folder", names)
    assert found is None or all(name.startswith(found) for name in names if plain.PREFIX.match(name))


@fuzz(100)
@given(changed({**golden_config(), "quantization_config": {"quant_method": "gptq", "bits": 4}}),
       changed({"peft_type": "LORA"}), st.sampled_from(["adapter_config.json", "quant_config.json", "other"]))
def test_folders(path, config, other, name):
    folder = path.parent / "foreign"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / name).write_text(json.dumps(other))
    assert survives(open_checkpoint, folder) is None  # it has no weights
    (folder / name).unlink()


@fuzz(100)
@given(st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"YQ== 0", b"YWI= 256", b"\n", b" ", b"=", b"1"])),
                max_size=20))
def test_vocabulary(path, lines):
    path.write_bytes(b"\n".join(lines))
    survives(read_ranks, path)


@fuzz(50)
@given(st.binary(max_size=60), changed({"chat_format": "chatml"}), JSON, st.binary(max_size=60), st.binary(max_size=60))
def test_check(path, sums, generation, config, metadata, pointer):
    """`make check` on a folder in which every file is nonsense: it lists problems and comes to its end."""
    folder = path.parent / "check"
    hub = folder / ".cache" / "huggingface" / "download"
    hub.mkdir(parents=True, exist_ok=True)
    (folder / "SHA256SUMS").write_bytes(b"0" * 64 + b"  config.json\n" + sums)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "config.json").write_text(json.dumps(config))
    (hub / "config.json.metadata").write_bytes(metadata)
    (folder / "pytorch_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" + pointer)
    found = check(folder, folder / "c", folder / "e")
    assert found.problems and all(text.isprintable() for _, text in found.lines)
