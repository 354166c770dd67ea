"""Weights that torch.save wrote carry checksums: a byte that changed since is found before anything is made of it."""

import shutil
import zipfile

import pytest
from checkpoint_files import save_torch

from core.errors import UserError
from export.__main__ import export
from export.checkpoint import open_checkpoint
from export.convert import convert
from export.readers import torch_bin

NAME = "transformer.h.1.attn.c_attn.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_torch(tmp_path_factory.mktemp("saved"), "sharded", "shared", "module")


def damaged(folder, name=NAME):
    """(folder, file) after the lowest bit of the tensor's first value was turned over, which leaves a sound number."""
    tensor = open_checkpoint(folder).tensors[name]
    with open(tensor.source.path, "r+b") as file:
        file.seek(tensor.offset)
        byte, = file.read(1)
        file.seek(tensor.offset)
        file.write(bytes([byte ^ 1]))
    return folder, tensor.source.path


@pytest.mark.parametrize("form", ["sharded", "module"])
@pytest.mark.parametrize("make", [convert, lambda source, out: export(["language"], source, out)])
def test_a_changed_byte_names_its_tensor_and_a_remedy(saved, tmp_path, form, make):
    folder, file = damaged(shutil.copytree(saved[form], tmp_path / "copy"))
    with pytest.raises(UserError) as caught:
        make(folder, tmp_path / "out")
    assert str(caught.value).startswith(f"{file} is damaged") and f" of {NAME} is" in str(caught.value)
    assert str(caught.value).endswith("download the file again") and not (tmp_path / "out").exists()


def test_tensors_that_share_a_storage_are_all_named(saved, tmp_path):
    folder, _ = damaged(shutil.copytree(saved["shared"], tmp_path / "copy"))
    with pytest.raises(UserError, match="transformer.wte.weight.* and 49 more is another"):
        convert(folder, tmp_path / "out")


def test_sound_files_are_converted(saved, tmp_path, capsys):
    for form, folder in saved.items():
        convert(folder, tmp_path / form)
        assert capsys.readouterr().out.startswith("check: 12 MB in")


def rewritten(path, change):
    """Write a file of torch.save again, its directory changed by `change(infos)`."""
    with zipfile.ZipFile(path, "a") as archive:
        change({info.filename.rpartition("/")[2]: info for info in archive.infolist()})
        archive._didModify = True  # writes the directory again at its end
    return path


def test_a_file_without_checksums_is_read(saved, tmp_path):
    """torch.serialization.set_crc32_options(False) writes zeros."""
    folder = shutil.copytree(saved["module"], tmp_path / "copy")
    rewritten(folder / "pytorch_model.bin", lambda infos: [setattr(info, "CRC", 0) for info in infos.values()])
    convert(folder, tmp_path / "out")
    assert open_checkpoint(folder).tensors[NAME].source.checksums == {}


def test_entries_that_share_their_bytes_are_refused_unread(saved, tmp_path):
    path = shutil.copy(saved["shared"] / "pytorch_model.bin", tmp_path)
    source = next(iter(torch_bin.read(path).values())).source
    (begin, length), *_ = sorted(source.checksums)[1:]
    source.checksums |= {(begin + i, length - i): 1 for i in range(3)}
    source.read = lambda *_: pytest.fail("was read")
    with pytest.raises(UserError, match="entries that share their bytes"):
        source.differing()
