"""The golden cases through matrices in 8 and 4 bits, against Paddle's own layers over the same numbers in float32."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import golden_tensors, write_checkpoint
from quantised_files import MATRICES, twin_config

from export.readers.quantised import QUANTISED
from ops import formats

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "data" / "tiny"
LOGITS, LOGITS_LONG = 2e-4, 1.2e-3   # of the golden data
CASES = sorted(path.stem for path in TINY.glob("case[2-7]*.npz"))
FORMATS = ("int8", "fp8", "int4")    # the others differ from the last in what test_lane_products.py has


def run(*arguments):
    subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def tensors():
    """Of the golden checkpoint with an MLP that tiles fill."""
    rng, tensors = np.random.default_rng(0), golden_tensors()
    for layer in range(2):
        for matrix, shape in MATRICES.items():
            name = f"transformer.h.{layer}.{matrix}.weight"
            if tensors[name].shape != shape:
                tensors[name] = rng.standard_normal(shape).astype(np.float32) / 16
    return tensors


@pytest.fixture(scope="module")
def exported(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    run("export", "all", write_checkpoint(folder / "checkpoint", tensors, config=twin_config()), folder / "exported")
    return folder / "exported"


@pytest.fixture(scope="module", params=FORMATS)
def replayed(request, tensors, exported, tmp_path_factory):
    """Folders of what the format and its products as plain weights give."""
    folder, format = tmp_path_factory.mktemp(request.param), formats.get(request.param)
    rounded = {name: format.dequantise(format.quantise(array)) if QUANTISED.search(name)
               or (name == "lm_head.weight" and not format.group) else array for name, array in tensors.items()}
    twin = write_checkpoint(folder / "twin", rounded, config=twin_config())
    run("export", "all", twin, folder / "native", "--impl", "native")
    for graphs, out, weights in ((exported, "ours", request.param), (folder / "native", "reference", "auto")):
        run("infer.replay", "--exported", graphs, "--cases", TINY, "--out", folder / out, "--device", "cpu",
            "--weights", weights)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_logits_and_tokens(replayed, case):
    ours, reference = (dict(np.load(replayed / name / f"{case}.npz")) for name in ("ours", "reference"))
    limit = LOGITS_LONG if case.startswith(("case6", "case7")) else LOGITS
    np.testing.assert_array_equal(ours["greedy_tokens"], reference["greedy_tokens"])
    for name in ("logits", "greedy_logits"):
        assert np.abs(ours[name] - reference[name]).max() <= limit
