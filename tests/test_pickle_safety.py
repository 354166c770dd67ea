"""A checkpoint never runs code: pickles that try are refused, the class named, and leave no trace."""

import collections
import io
import os
import pickle
import struct
import zipfile

import pytest
from checkpoint_files import copy_golden, one_line_error, run

from core.errors import UserError
from export.checkpoint import open_checkpoint


class CreatesFile:
    """What an attacker would put into a checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def checkpoint(folder, raw, form):
    """The golden checkpoint with the pickle `raw` in place of its weights."""
    copy_golden(folder)
    (folder / "model.safetensors").unlink()
    if form == "pdparams":
        (folder / "model_state.pdparams").write_bytes(raw)
    else:
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
            archive.writestr("archive/data.pkl", raw)
    return folder


FORMS = pytest.mark.parametrize("form", ["pdparams", "bin"])


@FORMS
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_reduce_that_would_create_a_file(tmp_path, form, protocol):
    trace = tmp_path / "trace"
    raw = pickle.dumps({"lm_head.weight": CreatesFile(trace)}, protocol=protocol)
    with pytest.raises(UserError, match=r"\b_?io\.open\b|instruction"):
        open_checkpoint(checkpoint(tmp_path / "c", raw, form))
    assert not trace.exists()
    pickle.loads(raw)["lm_head.weight"].close()
    assert trace.exists()  # it would have


@FORMS
def test_the_command_names_the_class_in_one_line(tmp_path, form):
    raw = pickle.dumps({"a": CreatesFile(tmp_path / "trace")}, protocol=4)
    message = one_line_error(run("-m", "export.convert", checkpoint(tmp_path / "c", raw, form), tmp_path / "out"))
    assert "io.open" in message and sorted(p.name for p in tmp_path.iterdir()) == ["c"]


@FORMS
@pytest.mark.parametrize("raw", [
    b"cos\nsystem\n(S'true'\ntR.", b"(S'true'\nios\nsystem\n.", b"(cos\nsystem\nS'true'\no.",
    b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
    b"\x80\x02cnumpy\nload\n.", b"\x80\x02ctorch\nload\n.", b"\x80\x02ccollections\nOrderedDict.fromkeys\n.",
    b"\x80\x02cexport.readers.pdparams\nNAMES\n.", b"\x80\x02\x82\x01.", b"\x80\x05\x97.",
])
def test_other_ways_to_reach_code(tmp_path, form, raw):
    with pytest.raises(UserError):
        open_checkpoint(checkpoint(tmp_path / "c", raw, form))


@FORMS
@pytest.mark.parametrize("raw", [
    b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",        # state for the class itself
    b"\x80\x02ccollections\nOrderedDict\n)\x81}X\x09\x00\x00\x00__class__K\x01sb.",
    b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.",                                   # state for a plain dictionary
    b"\x80\x02K\x01)R.", b"\x80\x02}K\x01R.", b"\x80\x02.", b"\x80\x02e.", b"\x80\xff}.", b"",
])
def test_states_and_calls_that_no_tensor_has(tmp_path, form, raw):
    with pytest.raises(UserError):
        open_checkpoint(checkpoint(tmp_path / "c", raw, form))


@FORMS
@pytest.mark.parametrize("raw", [
    b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60), b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60),
    b"\x80\x04B" + struct.pack("<I", 0xFFFFFFFF), b"\x80\x04X" + struct.pack("<I", 0xFFFFFFFF),
    b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.x", b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF),
])
def test_false_lengths_spend_no_memory(tmp_path, form, raw):
    with pytest.raises(UserError):
        open_checkpoint(checkpoint(tmp_path / "c", raw, form))


def test_endless_structure_is_refused(tmp_path):
    raw = io.BytesIO()
    pickle.dump(collections.OrderedDict((f"{i:01000}", i) for i in range(80_000)), raw, protocol=4)
    folder = checkpoint(tmp_path / "c", raw.getvalue(), "pdparams")
    assert os.path.getsize(folder / "model_state.pdparams") > 64 << 20
    with pytest.raises(UserError, match="far more structure"):
        open_checkpoint(folder)
