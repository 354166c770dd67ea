"""Damaged checkpoints in GPTQ's layout: settings, and the bytes of their file; they open or end in one line."""

import json

import numpy as np
import pytest
from fuzzing import changed, damaged, fuzz, survives
from gptq_files import CONFIG, gptq_config, gptq_tensors, twin_config, write_gptq
from hypothesis import given
from hypothesis import strategies as st

from export.check.__main__ import check
from export.checkpoint import open_whole
from export.readers.quantised import QuantisedTensor
from export.vocabulary import write_vocabulary

PARTS = ("g_idx", "qzeros", "scales")
pytestmark = pytest.mark.usefixtures("limited_memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sound checkpoint, whose files the tests replace."""
    folder = write_gptq(tmp_path_factory.mktemp("fuzz") / "gptq", gptq_tensors()[0])
    write_vocabulary(folder / "qwen.tiktoken", 480)
    assert open_whole(folder).quantised
    return folder


def opened(folder):
    """Open and check the folder, and read its quantised matrices; `make check` finds a fault where opening does."""
    whole = survives(open_whole, folder)
    for tensor in (whole.tensors.values() if whole else ()):
        if isinstance(tensor, QuantisedTensor):
            found = survives(tensor.read)
            assert found is None or found.shape == tensor.shape
    assert bool(check(folder, folder / "c", folder / "e").problems) == (whole is None)


@fuzz(60)
@given(changed(CONFIG), st.sampled_from(["config.json", "quantize_config.json"]))
def test_settings(folder, entry, file):
    inside = file == "config.json"
    (folder / "config.json").write_text(json.dumps({**twin_config(), "quantization_config": entry} if inside else
                                                   twin_config()))
    (folder / "quantize_config.json").unlink(missing_ok=True)
    if not inside:
        (folder / file).write_text(json.dumps(entry))
    opened(folder)


@fuzz(30)
@given(st.data())
def test_values_beside_the_codes(folder, data):
    """One array of one matrix, its bytes damaged but as long as before."""
    (folder / "config.json").write_text(json.dumps(gptq_config()))
    (folder / "quantize_config.json").unlink(missing_ok=True)
    tensors = dict(gptq_tensors()[0])
    name = "transformer.h.0.attn.c_proj." + data.draw(st.sampled_from(PARTS))
    array = tensors[name]
    raw = (data.draw(damaged(array.tobytes())) + bytes(array.nbytes))[:array.nbytes]
    write_gptq(folder, {**tensors, name: np.frombuffer(raw, array.dtype).reshape(array.shape)})
    opened(folder)
