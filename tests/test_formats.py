"""Weight formats stay in their folders: where their names may stand, and what each of them keeps.

Names of quantised formats are what people call such weights anywhere, so they may stand anywhere.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from core.config import ModelConfig
from ops import formats
from ops.formats.base import Plain
from ops.weights import MATRICES, parameter_shapes

ROOT = Path(__file__).parents[1]
REGISTRY = "ops/formats/registry.h"
# Types of other programs' files, which are more than the formats, and Paddle's numbers of types.
FOREIGN = re.compile(r"export/(stored\.py|readers/)|ops/framework/")
PROGRAMS = ("core", "ops", "export", "infer", "bench", "scripts")
PACKED = pytest.mark.parametrize("format", [format.name for format in formats.packed()])
NOT_PLAIN = pytest.mark.parametrize("format", [name for name in formats.NAMES if name not in formats.plain()])


def standing(pattern, folders, format, flags=re.IGNORECASE):
    """Files below the folders in which `pattern` stands, but for the format's own ones."""
    names = [path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*")
             if path.is_file() and path.suffix not in (".pyc", ".npz", ".gz", ".safetensors")]
    return sorted(name for name in [*names, "Makefile"] if f"/formats/{format}/" not in name
                  and re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), flags))


@PACKED
def test_a_packed_format_is_named_in_the_registry_alone(format):
    """And in docs and results, which are no sources; its tests are in tests/formats/<name>."""
    assert standing(re.escape(format), [*PROGRAMS, "tests"], format) == [REGISTRY]


@PACKED
def test_the_bits_of_a_packed_format_are_counted_in_its_folder(format):
    bits = formats.get(format).bits
    counted = rf"\b{bits}\b.{{0,12}}\bbits?\b|\bbits?\b.{{0,12}}\b{bits}\b|\? *{bits} *:"
    assert standing(counted, PROGRAMS, format) == []


@pytest.mark.parametrize("format", formats.plain())
def test_how_a_plain_format_is_stored_is_said_in_its_folder(format):
    """The types' names are everywhere, as those of activations; tables of their bits, bytes and NumPy types are not."""
    table = rf"""["']{format}["']: *(["'][<|>=]?[fu]\d|np\.|0x|\d+ *[,}}\]])"""
    found = standing(table, PROGRAMS, format, re.NOFLAG)
    assert [name for name in found if not FOREIGN.match(name)] == []


def test_every_folder_is_in_the_registry():
    folders = {path.parent.name for path in (ROOT / "ops" / "formats").glob("*/__init__.py")}
    assert folders == set(formats.NAMES) and len(formats.NAMES) == len(folders)
    for name in formats.NAMES:
        assert (ROOT / "ops" / "formats" / name / "format.h").is_file()
        format = formats.get(name)
        assert format.name == name and format.description and formats.get(format.values).values == format.values
        assert isinstance(formats.get(format.values), Plain)


def test_a_format_that_rounds_is_not_among_those_without_loss():
    kinds = [*formats.plain()], *([format.name for format in kind] for kind in (formats.packed(), formats.quantised()))
    assert all(kinds) and sorted(sum(kinds, [])) == sorted(formats.NAMES)


def test_an_unknown_format_is_no_format():
    with pytest.raises(KeyError):
        formats.get("base")


@NOT_PLAIN
def test_paddle_can_count_the_words_of_the_published_model(format):
    preset = json.loads((ROOT / "export" / "presets" / "7b.json").read_text(encoding="utf-8"))
    shapes = parameter_shapes(ModelConfig.from_dict(preset, "7b"), "language")
    assert all(formats.get(format).bytes(shapes[name]) // 4 < 2**31 for name in MATRICES)


@PACKED
def test_what_is_packed_comes_back(format):
    format = formats.get(format)
    rng = np.random.default_rng(0)
    numbers = (rng.standard_normal((2, 16, 256)).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    matrices = formats.get(format.values).pack(numbers)
    packed = format.pack(matrices)
    assert len(packed) == 1 + bool(format.extra) and all(part.dtype == np.int32 for part in packed)
    assert sum(part.nbytes for part in packed) == format.bytes(matrices.shape)
    np.testing.assert_array_equal(format.unpack(packed), matrices)
