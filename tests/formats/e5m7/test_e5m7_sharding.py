"""How weights would be cut over several devices, and what E5M7 packs together."""

import json
from pathlib import Path

import pytest

from core.config import ModelConfig
from ops.formats.e5m7 import reference
from ops.sharding import COLUMNS, CUTS
from ops.weights import MATRICES
from tests.test_sharding import parts

PRESET = Path(__file__).parents[3] / "export" / "presets" / "7b.json"
PUBLISHED = ModelConfig.from_dict(json.loads(PRESET.read_text(encoding="utf-8")), "preset 7b")


@pytest.mark.parametrize("world, apart", [(2, set()), (4, {"decoder.down_weight"}), (8, {"decoder.down_weight"})])
def test_what_is_packed_together_stays_together(world, apart):
    """Four devices would take 128 columns of the decoder's down matrix apart: 11008 / 4 is no multiple."""
    found = set()
    for name in MATRICES:
        operator, role = name.split(".")
        together = reference.COLUMNS if CUTS[operator][role].axis == COLUMNS else reference.ROWS
        if any(first % together for first, _ in parts(PUBLISHED, operator, role, world)):
            found.add(name)
    assert found == apart
