"""Small checkpoints that would build or compute without end: refused by counting, before memory or time is spent."""

import json
import pickle
import struct
import zipfile

import pytest
from checkpoint_files import copy_golden
from fuzzing import limited_memory
from test_pickle_safety import FORMS, checkpoint

from core.errors import UserError
from export.checkpoint import open_checkpoint
from export.readers import pdparams, safetensors, sharded, torch_bin
from export.stored import MAX_STRUCTURE_BYTES, Source, StoredTensor

PICKLE_BYTES = 64 << 20
MEMORY = 400 << 20   # address space that refusing may take
KEY = b"X\x01\x00\x00\x00a"
LONG = b"\x8a\xff" + b"\x7f" * 255
DTYPE = b"cnumpy\ndtype\n"
FLOATS = DTYPE + b"X\x02\x00\x00\x00f4\x85R(K\x03X\x01\x00\x00\x00<tb"   # the type float32
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
LAUGHS = b"(KAt" + b"".join(b"q%ch%ch%c\x86" % (i, i, i) for i in range(60))   # a tuple of 2^60 numbers


@pytest.fixture
def bounded():
    """A test may take MEMORY; more than that is a MemoryError, which no test here expects."""
    with limited_memory(MEMORY):
        yield


def refused(tmp_path, raw, form, words):
    with pytest.raises(UserError, match=words) as fault:
        open_checkpoint(checkpoint(tmp_path / "c", raw, form))
    text = str(fault.value)
    assert "\n" not in text and len(text) < 1000 and "MemoryError" not in text


@pytest.mark.parametrize("unit", [b"}", b"(", b"]\x94", LONG, b"h\0)R", b"}" + KEY + b"Ns", KEY + b"h\0\x85"],
                         ids=["dictionaries", "marks", "memory", "numbers", "objects", "entries", "tuples"])
def test_a_pickle_of_64_mib(tmp_path, bounded, unit):
    raw = b"\x80\x04" + ARRAY + b"q\x00" + unit * (PICKLE_BYTES // len(unit)) + b"."
    refused(tmp_path, raw, "pdparams", "far more structure")


def test_a_text_of_64_mib(tmp_path, bounded):
    raw = b"\x80\x04X" + struct.pack("<I", PICKLE_BYTES) + "\U0001f600".encode() * (PICKLE_BYTES // 4) + b"."
    refused(tmp_path, raw, "pdparams", "far more structure")


@FORMS
@pytest.mark.parametrize("unit", [b"\x85", b"(", b"\x85q\x00"], ids=repr)
def test_deep_nesting(tmp_path, bounded, form, unit):
    refused(tmp_path, b"\x80\x04]q\x00" + unit * 200_000 + b"0.", form, "damaged|not|no ")


@FORMS
@pytest.mark.parametrize("use", [
    b"}" + LAUGHS + b"K\x01s.",          # hashed as a key
    b"}(" + LAUGHS + b"K\x01u.",
    b"}" + KEY + LAUGHS + b"s.",         # as a value
    b"}" + KEY + LAUGHS + b"Qs.",        # as the identity of a storage
    b"}" + KEY + b"(K\x01K\x01" + LAUGHS + b"K\x01K\x01tQs.",
    b"}" + KEY + DTYPE + LAUGHS + b"\x85Rs.", LAUGHS + b".", b"]" + LAUGHS + b"K\x01s.",
], ids=range(8))
def test_a_tuple_of_tuples_is_never_walked(tmp_path, bounded, form, use):
    refused(tmp_path, b"\x80\x04" + use, form, "no tensor|damaged|no dictionary|not a tensor")


@FORMS
def test_a_call_with_endless_arguments(tmp_path, bounded, form):
    """Each call would copy them: a few bytes a call, and a pickle of a megabyte runs for an hour."""
    raw = b"\x80\x04(" + b"N" * 100_000 + b"tq\x00ccollections\nOrderedDict\nq\x01" + b"h\x01h\x00R0" * 100_000 + b"."
    refused(tmp_path, raw, form, "instruction")


@pytest.mark.parametrize("shape", [b"(" + LONG * 2000 + b"t", b"(J\xff\xff\xff\x7fX\x01\x00\x00\x00at",
                                   b"(X\x01\x00\x00\x00aJ\xff\xff\xff\x7ft", b"(" + b"K\x02" * 9 + b"t"], ids=range(4))
@pytest.mark.parametrize("columns_first", [b"\x88", b"\x89"])
def test_shapes_are_looked_at_before_they_are_multiplied(tmp_path, bounded, shape, columns_first):
    raw = (b"\x80\x04}" + KEY + ARRAY + b")R(K\x01" + shape + FLOATS + columns_first + b"C\x08" + bytes(8) + b"tbs.")
    refused(tmp_path, raw, "pdparams", "impossible shape")


def test_a_storage_is_only_what_the_file_holds(tmp_path):
    """A tuple that looks like a storage is none: its numbers were not checked."""
    raw = (b"\x80\x02}" + KEY + b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00float32" + KEY
           + b"K\x09tK\x00(K\x01t(K\x01ttRs.")
    refused(tmp_path, raw, "bin", "not a tensor")


def test_one_storage_again_and_again(tmp_path):
    """A few bytes must not stand for weights that fill a disk."""
    arrays = b"".join(b"X\x02\x00\x00\x00%02dh\x00s" % i for i in range(3))
    raw = (b"\x80\x04" + ARRAY + b")R(K\x01K\x80\x85" + FLOATS + b"\x89B" + struct.pack("<I", 512) + bytes(512)
           + b"tbq\x000}" + arrays + b".")
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(raw)
    with pytest.raises(UserError, match="again and again"):
        pdparams.read(path)
    path.write_bytes(raw.replace(b"X\x02\x00\x00\x0002h\x00s", b""))
    assert len(pdparams.read(path)) == 2


def test_a_directory_of_a_zip_that_fills_the_memory(tmp_path, bounded):
    path = tmp_path / "pytorch_model.bin"
    with open(path, "wb") as file:
        file.truncate(4 << 30)
        file.seek(0, 2)
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, (4 << 30) - 1, 1, 0))
    with pytest.raises(UserError, match="far more than a checkpoint"):
        torch_bin.read(path)


def test_a_directory_of_many_entries(tmp_path, bounded):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(1500):
            archive.writestr(f"{i:06}" * 1000, b"")
    with pytest.raises(UserError, match="far more than a checkpoint"):
        torch_bin.read(path)


def test_a_byte_order_of_gigabytes_is_not_read(tmp_path, bounded):
    path, size = tmp_path / "pytorch_model.bin", 2 << 30
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/byteorder", b"x")
    raw = bytearray(path.read_bytes())
    directory = raw.rindex(b"PK\1\2")
    struct.pack_into("<II", raw, directory + 20, size, size)   # both of its sizes
    begin = len(raw) + size                                    # the directory behind that many zeros
    end = raw.rindex(b"PK\5\6")
    first = raw.index(b"PK\1\2")
    struct.pack_into("<I", raw, end + 16, first + size)
    with open(path, "wb") as file:
        file.write(raw[:first])
        file.seek(first + size)
        file.write(raw[first:])
    assert path.stat().st_size == begin
    with pytest.raises(UserError, match="big-endian"):
        torch_bin.read(path)


@pytest.mark.parametrize("text", ['{"a":[' + "{}," * (30 << 20 >> 2) + "{}]}", '{"a":' + "[" * (30 << 20) + "}"],
                         ids=["many", "deep"])
def test_headers_and_indexes_are_bounded_alike(tmp_path, bounded, text):
    raw = text.encode()
    assert len(raw) > MAX_STRUCTURE_BYTES
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    with pytest.raises(UserError, match="far more than a checkpoint"):
        safetensors.read(path)
    path.write_bytes(raw)
    with pytest.raises(UserError, match="larger than 8 MiB"):
        sharded.places(path)


def test_only_named_tensors_of_a_shard_are_kept(tmp_path):
    folder = copy_golden(tmp_path / "c")
    tensor = StoredTensor(Source(folder / "model.safetensors"), 0, (1,), (1,), "float32")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1", "b": "2"}}))
    assert set(sharded.read(index, lambda path: dict.fromkeys("abc", tensor))) == {"a", "b"}
