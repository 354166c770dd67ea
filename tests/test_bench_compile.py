"""The torch-compile arm: its static cache and compiled graphs give what the baseline under generate() gives."""

import subprocess
import sys
from pathlib import Path

from export.synthetic import write_checkpoint

ROOT = Path(__file__).parents[1]
CHECK = """
import sys
import numpy as np
import torch
from bench.arms.torch_arm import TorchArm
from bench.arms.torch_compile_arm import TorchCompileArm
from bench.torch_model.static import SLOT_ROUNDING

source, picture = sys.argv[1:]
compiled, plain = TorchCompileArm(), TorchArm()
compiled.load(source, "float32", "cpu", 1, backend="eager")   # the graphs are made, no code is generated
plain.load(source, "float32", "cpu", 1, attention="eager")
start = plain.model.geometry.image_start_id
prompt = [5, start, *[0] * 256, start + 1, 7, 8]
for batch, new_tokens in ((1, 1), (1, SLOT_ROUNDING), (2, 3)):
    for arm in (compiled, plain):
        prepared = arm.prepare(picture, [prompt] * batch, new_tokens)
        assert (prepared["compile_ms"] is not None) == (arm is compiled)
    ours, reference = compiled.outputs(), plain.outputs()
    for name in ("image_features", "logits"):
        np.testing.assert_allclose(ours[name], reference[name], atol=5e-5)
    assert (ours["tokens"] == reference["tokens"]).all()
    for _ in range(2):
        measured = compiled.measure()
        assert measured["tokens"] == reference["tokens"].tolist()
        assert len(measured["stages"]["token"]) == (new_tokens > 1)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
assert graphs < 30, graphs   # all layers share their blocks' graphs
"""


def test_outputs_are_those_of_the_baseline(tmp_path):
    import numpy as np

    checkpoint = write_checkpoint("tiny", tmp_path / "tiny")
    np.save(tmp_path / "image.npy", np.random.default_rng(0).integers(0, 256, [40, 60, 3], np.uint8))
    done = subprocess.run([sys.executable, "-c", CHECK, str(checkpoint), str(tmp_path / "image.npy")], cwd=ROOT,
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
