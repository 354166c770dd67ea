"""Exported folders that must not run: another operator version, damage, mixtures, a dtype the device lacks."""

import json
import shutil

import pytest

from core.errors import UserError
from core.placement import CPU
from infer.engine import Engine
from ops.framework import programs, wheel


@pytest.fixture
def exported(exported_tiny, tmp_path):
    return shutil.copytree(exported_tiny, tmp_path / "exported")


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(exported, message):
    with pytest.raises(UserError, match=message) as error:
        Engine(exported, CPU)
    assert "\n" not in str(error.value)


def test_another_operator_version(exported):
    edit(exported / "vision", operators="0123456789ab")
    refused(exported, "was exported for operators 0123456789ab, .* run `make export` again")


def test_a_program_of_another_paddle(exported):
    manifest = json.loads((exported / "vision" / "manifest.json").read_text())
    files = {name.replace(programs.file_name(), "model.other"): facts for name, facts in manifest["files"].items()}
    edit(exported / "vision", paddle="9.1.0", files=files)
    refused(exported, f"/vision was exported by Paddle 9.1.0, here is {wheel()}, .*: run `make export` again")


def test_another_schema(exported):
    edit(exported / "language", schema=99)
    refused(exported, "has schema 99")


@pytest.mark.parametrize("name", [programs.file_name(), "model.pdiparams"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_files(exported, name, damage):
    path = exported / "language" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-1])
    refused(exported, f"{name} is not the file that was exported: delete .*/language, then run `make export`")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 3}', "[" * 100000, "<<<<<<< HEAD\n{}\n"])
def test_damaged_manifest(exported, content):
    (exported / "vision" / "manifest.json").write_text(content)
    refused(exported, "manifest.json is damaged .*: delete .*/vision, then run `make export`")


@pytest.mark.parametrize("changed", [{}, {"bits": 4.0}, {"bits": 3}, {"group": False}, {"zeros": 0}, {"zeros": None}])
def test_a_manifest_of_codes_that_are_none(exported, changed):
    edit(exported / "language", quantised={"bits": 4, "group": 128, "zeros": False, **changed} if changed else [])
    refused(exported, "manifest.json is damaged")


def test_a_manifest_cannot_name_files_elsewhere(exported):
    edit(exported / "vision", files={"../../secret": {"bytes": 1, "xxh3_128": "0"}})
    refused(exported, "manifest.json is damaged")


def test_missing_graph(exported):
    shutil.rmtree(exported / "language")
    refused(exported, "no exported graph in .*language: run `make export`")


def test_graphs_of_different_checkpoints(exported):
    edit(exported / "vision", checkpoint={"hash": "another", "synthetic": True})
    refused(exported, "come from different exports")


def test_half_precision_on_the_cpu(exported):
    edit(exported / "vision", dtype="float16")
    refused(exported, "the CPU runs float32: export with DTYPE=float32")
