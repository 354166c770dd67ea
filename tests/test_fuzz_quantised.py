"""Damaged checkpoints in every layout of quantised matrices: settings, and the bytes of their file; they open or end in
one line."""

import json

import awq_files
import fp8_files
import gptq_files
import numpy as np
import pytest
from fuzzing import changed, damaged, fuzz, survives
from hypothesis import given
from hypothesis import strategies as st
from quantised_files import twin_config

from export.check.__main__ import check
from export.checkpoint import open_whole
from export.readers.quantised import QuantisedTensor
from export.vocabulary import write_vocabulary

LAYOUTS = {   # layout: (its tensors, what writes them, its settings, the file beside, parts)
    "gptq": (gptq_files.gptq_tensors()[0], gptq_files.write_gptq, gptq_files.CONFIG, "quantize_config.json",
             ("g_idx", "qzeros", "scales")),
    "awq": (awq_files.awq_tensors()[0], awq_files.write_awq, awq_files.CONFIG, "quant_config.json",
            ("qweight", "qzeros", "scales")),
    "fp8": (fp8_files.fp8_tensors()[0], fp8_files.write_fp8, fp8_files.ENTRY, None, ("weight", "weight_scale"))}
pytestmark = pytest.mark.usefixtures("limited_memory")


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    """(folder of a sound checkpoint, whose files the tests replace, and what LAYOUTS has)."""
    tensors, write, *more = LAYOUTS[request.param]
    folder = write(tmp_path_factory.mktemp("fuzz") / "quantised", tensors)
    write_vocabulary(folder / "qwen.tiktoken", 480)
    assert open_whole(folder).quantised
    return folder, tensors, write, *more


def opened(folder):
    """Open and check the folder, and read its quantised matrices; `make check` finds a fault where opening does."""
    whole = survives(open_whole, folder)
    for tensor in (whole.tensors.values() if whole else ()):
        if isinstance(tensor, QuantisedTensor):
            found = survives(tensor.read)
            assert found is None or found.shape == tensor.shape
    assert bool(check(folder, folder / "c", folder / "e").problems) == (whole is None)


@fuzz(60)
@given(st.data())
def test_settings(layout, data):
    folder, _, _, settings, file = layout[:5]
    entry = data.draw(changed(settings))
    beside = file and data.draw(st.booleans())
    content = twin_config() if beside else {**twin_config(), "quantization_config": entry}
    (folder / "config.json").write_text(json.dumps(content))
    if file:
        (folder / file).unlink(missing_ok=True)
    if beside:
        (folder / file).write_text(json.dumps(entry))
    opened(folder)


@fuzz(30)
@given(st.data())
def test_values_of_a_part(layout, data):
    """One array of one matrix, its bytes damaged but as long as before."""
    folder, tensors, write, _, file, parts = layout
    if file:
        (folder / file).unlink(missing_ok=True)
    name = "transformer.h.0.attn.c_proj." + data.draw(st.sampled_from(parts))
    array = tensors[name]
    raw = (data.draw(damaged(array.tobytes())) + bytes(array.nbytes))[:array.nbytes]
    write(folder, {**tensors, name: np.frombuffer(raw, array.dtype).reshape(array.shape)})
    opened(folder)
