"""Exported folders whose manifest and parameters were forged together, so that hashes fit: other shapes, types and
sizes than config and format ask for end in one line, before memory is spent or a number unpacked."""

import json
import math
import shutil

import numpy as np
import pytest
from fp8_files import fp8_tensors, write_fp8
from gptq_files import gptq_tensors, write_gptq

from core.errors import UserError
from core.files import file_hash
from core.placement import CPU
from export.__main__ import export
from export.params import write_parameters
from export.vocabulary import write_vocabulary
from infer import parameters
from infer.graph import Graph, Manifest
from ops.framework.programs import HEADER, read_parameter
from ops.weights import stored_parameters

NAME = "decoder.qkv_weight"
EXPORTS = {"int4": (lambda folder: write_gptq(folder, gptq_tensors()[0]), "fused"),
           "fp8": (lambda folder: write_fp8(folder, fp8_tensors()[0]), "fused"),
           "native": (lambda folder: write_gptq(folder, gptq_tensors()[0]), "native")}


@pytest.fixture(scope="module", params=EXPORTS)
def exported(request, tmp_path_factory):
    """(kind, folder of a language graph)."""
    write, impl = EXPORTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write_vocabulary(write(folder / "checkpoint") / "qwen.tiktoken", 480)
    export(("language",), folder / "checkpoint", folder / "exported", impl=impl)
    return request.param, folder / "exported" / "language"


@pytest.fixture
def forged(exported, tmp_path, monkeypatch):
    """Write the folder anew with other parameters, bytes or settings; returns what loading it says."""
    kind, source = exported
    folder = shutil.copytree(source, tmp_path / "language")
    manifest = Manifest(folder)
    stored = stored_parameters(manifest.config, "language", "float32", manifest.impl, manifest.quantised)
    monkeypatch.setattr(parameters, "upload", lambda *args: pytest.fail("something was copied"))
    monkeypatch.setattr("infer.graph.Predictor", lambda *args, **more: pytest.fail("Paddle was given the file"))

    def forge(change=None, raw=None, **settings):
        path = folder / "model.pdiparams"
        if change:
            made = change(dict(stored))
            with open(path, "wb") as file:
                write_parameters(file, made, lambda name: [np.zeros(*made[name])])
        path.write_bytes(raw(path.read_bytes()) if raw else path.read_bytes())
        content = json.loads((folder / "manifest.json").read_text())
        content.update(settings)
        content["files"]["model.pdiparams"] = {"bytes": path.stat().st_size, "xxh3_128": file_hash(path)}
        (folder / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(UserError) as caught:
            Graph(folder, CPU)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 500 and "make export" in message
        return message
    forge.kind, forge.first = kind, sorted(name for name in stored if name.startswith(NAME))[0]
    forge.config = manifest.config.to_dict()
    forge.shape, forge.type = stored[forge.first]
    return forge


def test_wrong_shapes(forged):
    wide = list(forged.shape)
    wide[-1] *= 2
    swapped = [*forged.shape[:-2], forged.shape[-1], forged.shape[-2]]
    for shape in wide, swapped, [math.prod(forged.shape)], [*forged.shape, 1], [0]:
        message = forged(lambda stored, shape=shape: {**stored, forged.first: (shape, forged.type)})
        assert f"{forged.first}: {forged.type} {shape} instead of {forged.type} {list(forged.shape)}" in message


def test_a_wrong_type(forged):
    other = {"int8": "uint8", "uint8": "int8", "float32": "float16"}[forged.type]
    message = forged(lambda stored: {**stored, forged.first: (forged.shape, other)})
    assert f"{forged.first}: {other} " in message and f"instead of {forged.type} " in message


@pytest.mark.parametrize("left", [0, 3, 19, 25, 1000, -1])
def test_truncated(forged, left):
    message = forged(raw=lambda content: content[:left])
    assert "is no file of this graph's parameters" in message


def test_a_huge_header(forged):
    """One that claims most of the file to be the description of its first tensor."""
    message = forged(raw=lambda content: HEADER.pack(0, 0, 0, len(content) - 100) + content[HEADER.size:])
    assert f"no tensor at byte {HEADER.size}" in message


def test_a_model_that_is_larger_than_the_file(forged):
    """By the manifest's config alone: nothing of the sizes that it asks for is made."""
    message = forged(config={**forged.config, "vocab_size": 1 << 19})
    assert "instead of" in message or "truncated" in message


def test_groups_that_do_not_divide(forged):
    if forged.kind != "int4":
        pytest.skip("has no groups")
    assert "groups of 128 do not divide its matrices" in forged(config={**forged.config, "intermediate_size": 2 * 160})


def test_settings_of_codes_that_contradict_each_other(forged):
    if forged.kind != "fp8":
        pytest.skip("has no floating codes")
    for bits, group, zeros in ((4, 0, False), (8, 128, False), (8, 0, True)):
        message = forged(quantised={"bits": bits, "group": group, "zeros": zeros, "floating": True})
        assert "is damaged (quantised " in message


def test_no_more_than_a_header_is_read():
    """Neither the size nor the values of what is announced take memory."""
    class Content(bytes):
        def __getitem__(self, place):
            assert isinstance(place, slice) and place.stop - place.start <= 1 << 10
            return bytes.__getitem__(self, place)

    content = Content(HEADER.pack(0, 0, 0, 2000) + bytes(4000))
    with pytest.raises(ValueError, match="no tensor at byte"):
        read_parameter(content, 0, (1 << 40,), "float32")
