"""In which formats matrices are kept for what WEIGHTS= says, and what is refused in one line."""

from types import SimpleNamespace

import pytest

from core.config import ModelConfig
from core.errors import UserError
from core.placement import CPU, Placement
from infer.formats import DECODER, check, choices, named
from ops import formats
from ops.formats.base import Quantised
from ops.quantisation import Quantisation
from ops.weights import HEAD, MATRICES
from tests import operators

FITS = operators.config()
GPU, REAL = Placement("gpu"), formats.packed()[0]


class Lossless:
    name, values, description = "lossless", "float16", "fewer bits"

    def is_usable(self, config, placement):
        return placement is GPU and config is FITS


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A lossless format of the GPU's, and quantised ones that fit every model."""
    monkeypatch.setattr(formats, "packed", lambda values=None: [LOSSLESS])
    for format in formats.quantised():
        monkeypatch.setattr(type(format), "is_usable", lambda *args: True)


LOSSLESS = Lossless()


def kept(weights, dtype="float32", placement=CPU, impl="fused", quantised=None):
    """{matrix: names of the formats that are tried}."""
    manifest = SimpleNamespace(dtype=dtype, config=FITS, impl=impl, quantised=quantised)
    found = {}
    for choice in choices(weights, manifest, placement):
        found |= dict.fromkeys(choice.matrices, [format.name for format in choice.candidates])
    assert tuple(found) == MATRICES
    return found[DECODER[0]], found[HEAD]


def test_auto_loses_nothing():
    assert kept("auto") == (["float32"], ["float32"])
    assert kept("auto", "float16", GPU) == (["lossless", "float16"],) * 2
    assert kept("auto", "bfloat16", GPU) == (["bfloat16"],) * 2
    assert kept("auto", impl="native") == (["float32"], ["float32"])


def test_a_scale_a_row_takes_the_head_and_groups_leave_it():
    assert kept("int8") == (["int8"], ["int8"]) and kept("fp8") == (["fp8"], ["fp8"])
    assert kept("int4") == (["int4"], ["float32"])
    assert kept("int4", "float16", GPU) == (["int4"], ["lossless", "float16"])
    assert kept("int4+int8") == (["int4"], ["int8"]) and kept("int8+float32") == (["int8"], ["float32"])
    assert kept("float32") == (["float32"],) * 2


def test_codes_are_kept_in_the_fewest_bits_that_hold_them():
    codes = Quantisation(4, 128, False, False)
    decoder, head = kept("auto", quantised=codes)
    assert decoder[0] == "int4" and set(decoder) == {format.name for format in formats.quantised()}
    assert [formats.get(name).bits for name in decoder] == sorted(formats.get(name).bits for name in decoder)
    assert head == ["float32"] and kept("float32", quantised=codes) == (["float32"],) * 2


@pytest.mark.parametrize("weights, settings, words", [
    ("int5", {}, "WEIGHTS=int5 is no format: use auto, one of float16"), ("int4+int8+int8", {}, "is no format"),
    ("float16", {}, "were exported in float32: use WEIGHTS=float32"),
    ("float16", {"placement": GPU}, "were exported in float32: use DTYPE=float16"),
    (REAL.name, {}, f"nothing here reads {REAL.description}"), ("int8", {"impl": "native"}, "use IMPL=fused"),
    ("int8", {"dtype": "bfloat16", "placement": GPU}, "in bfloat16 on this gpu: use WEIGHTS=auto")])
def test_what_cannot_be_had(weights, settings, words):
    with pytest.raises(UserError) as caught:
        kept(weights, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_shapes_that_tiles_do_not_fill(monkeypatch):
    monkeypatch.undo()
    tiny = ModelConfig.load("tests/data/tiny/checkpoint")   # an MLP of 160
    manifest = SimpleNamespace(dtype="float32", config=tiny, impl="fused", quantised=None)
    for format in formats.quantised():
        with pytest.raises(UserError, match="for a model of these sizes in float32 on this cpu: use WEIGHTS=auto"):
            choices(format.name, manifest, CPU)
    assert choices("auto", manifest, CPU)


def test_names():
    assert check("auto") == "auto" and all(isinstance(format, Quantised) for format in formats.quantised())
    plain, eight = formats.get("float32"), formats.get("int8")
    assert named(plain, plain) == "float32" and named(eight, plain) == "int8+float32"
    assert formats.of_both("int8+float32") == (eight, plain) and formats.of_both("int8") == (eight, eight)
    assert "those of the head in float32" in formats.describe("int8+float32")
