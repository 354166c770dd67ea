"""Broken checkpoints: one line that names the fault, whatever is wrong, and no memory spent on a false size."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from checkpoint_files import (
    GOLDEN,
    copy_golden,
    fault_of,
    golden_config,
    golden_tensors,
    one_line_error,
    run,
    write_checkpoint,
)
from safetensors.numpy import save_file

from export.checkpoint import open_checkpoint

WEIGHTS = "model.safetensors"


def fault(folder):
    """The message that opening `folder` gives."""
    return fault_of(open_checkpoint, folder)


def rewrite_header(folder, change):
    """Apply `change` to the safetensors header of `folder`, the data left as it is."""
    path = folder / WEIGHTS
    raw = path.read_bytes()
    length, = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    changed = json.dumps(change(header) or header).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + raw[8 + length:])


def test_no_such_checkpoint(tmp_path):
    assert "no checkpoint folder" in fault(tmp_path / "nothing")
    assert "config.json" in fault(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(golden_config()))
    assert "no weights" in fault(tmp_path)


@pytest.mark.parametrize("command", [["-m", "export", "all"], ["-m", "export.convert"]])
def test_commands_report_in_one_line(tmp_path, command):
    assert "no checkpoint folder" in one_line_error(run(*command, tmp_path / "nothing", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 5, 8, 100, 9000, 1_000_000, 11_000_000])
def test_truncated_safetensors(tmp_path, size):
    folder = copy_golden(tmp_path / "c")
    os.truncate(folder / WEIGHTS, size)
    assert "truncated" in fault(folder) or "damaged" in fault(folder)


def test_trailing_bytes(tmp_path):
    folder = copy_golden(tmp_path / "c")
    with open(folder / WEIGHTS, "ab") as file:
        file.write(b"more")
    assert "more bytes" in fault(folder)


@pytest.mark.parametrize("header", [b"{", b"[]", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b'{"a": 1}',
                                    b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
                                    b'{"a": {"dtype": "F32", "shape": 4, "data_offsets": [0, 4]}}',
                                    b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
                                    b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
                                    b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
                                    b'{"a": {"dtype": "F32", "shape": [1e0], "data_offsets": [0, 4]}}'])
def test_damaged_headers(tmp_path, header):
    folder = copy_golden(tmp_path / "c")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    message = fault(folder)
    assert "damaged" in message or "impossible" in message or "unknown type" in message


def test_a_header_of_2_to_the_60_bytes(tmp_path):
    folder = copy_golden(tmp_path / "c")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 60) + b"{}" * 100)
    assert "claims" in fault(folder)


def test_a_tensor_of_2_to_the_60_values(tmp_path):
    folder = copy_golden(tmp_path / "c")
    rewrite_header(folder, lambda h: h["lm_head.weight"].update(shape=[1 << 30, 1 << 30]))
    assert "lm_head.weight" in fault(folder)


def test_offsets_outside_the_file(tmp_path):
    folder = copy_golden(tmp_path / "c")
    rewrite_header(folder, lambda h: h["lm_head.weight"].update(data_offsets=[1 << 40, (1 << 40) + 512 * 256 * 4]))
    assert "lm_head.weight" in fault(folder) and "outside" in fault(folder)


def test_overlapping_tensors(tmp_path):
    folder = copy_golden(tmp_path / "c")
    rewrite_header(folder, lambda h: h["lm_head.weight"].update(
        data_offsets=[at + 4 for at in h["lm_head.weight"]["data_offsets"]]))
    assert "overlap" in fault(folder)


def test_every_mismatch_is_named_at_once(tmp_path):
    arrays = golden_tensors()
    del arrays["transformer.ln_f.weight"], arrays["transformer.h.1.mlp.w2.weight"]
    arrays["transformer.h.0.attn.c_attn.bias"] = np.ones(7, np.float32)
    arrays["transformer.wte.weight"] = np.ones((512, 256), np.int8)
    arrays["transformer.extra.weight"] = np.ones(3, np.float32)
    message = fault(write_checkpoint(tmp_path / "c", arrays))
    for part in ("2 missing", "transformer.ln_f.weight", "transformer.h.1.mlp.w2.weight",
                 "c_attn.bias [7] instead of [768]",
                 "transformer.wte.weight int8", "1 unexpected: transformer.extra.weight"):
        assert part in message


def test_names_cannot_steer_the_terminal(tmp_path):
    arrays = {**golden_tensors(), "a\x1b[2Jb\nc": np.ones(3, np.float32)}
    assert r"a\x1b[2Jb\nc" in fault(write_checkpoint(tmp_path / "c", arrays))


def test_long_lists_are_counted_and_shortened(tmp_path):
    config = {**golden_config(), "num_hidden_layers": 40}
    message = fault(write_checkpoint(tmp_path / "c", golden_tensors(), config=config))
    assert "304 missing" in message and "292 more" in message and len(message) < 1500


def test_linear_weights_in_the_other_layout(tmp_path):
    arrays = golden_tensors()
    arrays["lm_head.weight"] = np.ascontiguousarray(arrays["lm_head.weight"].T)
    assert "lm_head.weight [256, 512] instead of [512, 256]" in fault(write_checkpoint(tmp_path / "c", arrays))


@pytest.mark.parametrize("shard", ["../c/model.safetensors", "/etc/passwd", "..", ".", "", "a\\b", "a\0b", "sub/m",
                                   "m" * 5000, "\ud800"])
def test_shards_outside_the_folder(tmp_path, shard):
    folder = copy_golden(tmp_path / "c")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    assert "a shard must be a file beside its index" in fault(folder)


@pytest.mark.parametrize("index", ["[", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_damaged_indexes(tmp_path, index):
    folder = copy_golden(tmp_path / "c")
    (folder / "model.safetensors.index.json").write_text(index)
    assert "index.json" in fault(folder)


def test_a_shard_that_is_absent_or_lacks_its_tensor(tmp_path):
    folder = copy_golden(tmp_path / "c")
    (folder / WEIGHTS).unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "no.safetensors"}}))
    assert "no.safetensors" in fault(folder)
    save_file({"other": np.ones(1, np.float32)}, folder / "no.safetensors")
    assert "lm_head.weight" in fault(folder)


def test_links_to_nowhere_and_pipes(tmp_path):
    folder = copy_golden(tmp_path / "c")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tmp_path / "gone")
    assert "cannot open" in fault(folder)
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    assert "not a regular file" in fault(folder)


def test_linked_weights_are_read(tmp_path):
    """The Hugging Face cache holds links to its files."""
    folder = copy_golden(tmp_path / "c")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(GOLDEN / WEIGHTS)
    assert len(open_checkpoint(folder).tensors) == 61


def with_pdparams(folder, raw):
    folder = copy_golden(folder)
    (folder / WEIGHTS).unlink()
    (folder / "model_state.pdparams").write_bytes(raw)
    return folder


@pytest.mark.parametrize("cut", [1, 2, 50, 500, 100_000])
def test_truncated_pdparams(tmp_path, cut):
    raw = pickle.dumps({"a": np.ones(100_000, np.float32)}, protocol=4)
    assert "truncated" in fault(with_pdparams(tmp_path / "c", raw[:-cut]))


@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {"a": {"b": 1}}, {3: np.ones(2)}, {"a": ("n", 3)}, "text", {}])
def test_pdparams_without_tensors(tmp_path, value):
    assert "pdparams" in fault(with_pdparams(tmp_path / "c", pickle.dumps(value, protocol=4))) or value == {}


def test_a_pdparams_tensor_larger_than_its_bytes(tmp_path):
    array = pickle.dumps({"a": np.ones(4, np.float32)}, protocol=4)
    assert array.count(b"K\x04\x85") == 1
    assert "outside" in fault(with_pdparams(tmp_path / "c", array.replace(b"K\x04\x85", b"K\x05\x85")))


def with_torch_file(folder, entries, compression=zipfile.ZIP_STORED):
    folder = copy_golden(folder)
    (folder / WEIGHTS).unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", compression) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return folder


def test_damaged_torch_files(tmp_path):
    folder = with_torch_file(tmp_path / "a", {"archive/data.pkl": b"\x80\x02}."})
    os.truncate(folder / "pytorch_model.bin", 40)
    assert "truncated" in fault(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "zip" in fault(folder)
    assert "data.pkl" in fault(with_torch_file(tmp_path / "b", {"archive/other": b""}))
    packed = with_torch_file(tmp_path / "c", {"archive/data.pkl": bytes(999)}, zipfile.ZIP_DEFLATED)
    assert "compressed" in fault(packed)
    assert "truncated" in fault(with_torch_file(tmp_path / "d", {"archive/data.pkl": b"\x80\x02}"}))


def test_a_torch_tensor_larger_than_its_storage(tmp_path):
    rebuild = (b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n"
               b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(%b)(%b)tRs.")
    data = {"archive/data/0": bytes(16)}
    large, negative = b"J\xff\xff\xff\x7ft", b"J\xff\xff\xff\xfft"
    for shape, strides in ((large, b"K\x01t"), (b"K\x04t", b"K\x02t"), (large, b"K\x00t"), (negative, b"K\x01t")):
        raw = rebuild.replace(b"(%b)", b"(" + shape, 1).replace(b"(%b)", b"(" + strides, 1)
        folder = with_torch_file(tmp_path / f"{shape.hex()}{strides.hex()}", {"archive/data.pkl": raw, **data})
        assert "outside" in fault(folder) or "impossible" in fault(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "quantize_config.json"])
def test_a_pipe_in_place_of_a_small_file_keeps_nobody_waiting(tmp_path, name):
    folder = copy_golden(tmp_path / "c")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    done = run("-m", "export.check", folder, "--converted", tmp_path / "a", "--exported", tmp_path / "b", timeout=100)
    assert "Traceback" not in done.stderr
