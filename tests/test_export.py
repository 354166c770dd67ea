"""The export command on the golden checkpoint: whole folders, a true manifest, and features as the reference's."""

import json
import math

import pytest
from checkpoint_files import GOLDEN, copy_golden, golden_config, run, run_code

from core.config import ModelConfig
from core.files import file_hash
from export.checkpoint import open_checkpoint
from export.convert import convert
from export.vocabulary import write_vocabulary
from ops.framework import import_paddle, programs
from ops.weights import parameter_shapes

VERSION = "from ops import library; print('VERSION', library.version())"


@pytest.fixture(scope="module", params=["fused", "native"])
def impl(request):
    return request.param


@pytest.fixture(scope="module")
def exported(tmp_path_factory, impl):
    """The golden checkpoint, with a vocabulary, exported."""
    folder = tmp_path_factory.mktemp("export")
    source = copy_golden(folder / "checkpoint")
    write_vocabulary(source / "qwen.tiktoken", open_checkpoint(source).config.image_start_id)
    done = run("-m", "export", "all", source, folder / "out", "--impl", impl)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["export vision", "export language"]
    return folder / "out"


@pytest.mark.parametrize("graph", ["vision", "language"])
def test_manifest(exported, impl, graph):
    folder = exported / graph
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert files == {programs.file_name(), "model.pdiparams"} | ({"qwen.tiktoken"} if graph == "language" else set())
    assert manifest.pop("files") == {
        name: {"bytes": (folder / name).stat().st_size, "xxh3_128": file_hash(folder / name)} for name in files}
    assert ModelConfig.from_dict(manifest.pop("config")) == ModelConfig.from_dict(golden_config())
    operators = run_code(VERSION).partition("VERSION ")[2].strip() if impl == "fused" else ""
    assert manifest == {"schema": 3, "graph": graph, "dtype": "float32", "impl": impl, "operators": operators,
                        "paddle": import_paddle().__version__,
                        "checkpoint": {"hash": open_checkpoint(GOLDEN).hash(), "synthetic": False}}


def test_a_converted_checkpoint_gives_the_same_graphs(exported, impl, tmp_path):
    convert(exported.parent / "checkpoint", tmp_path / "converted")
    done = run("-m", "export", "all", tmp_path / "converted", tmp_path / "out", "--impl", impl)
    assert done.returncode == 0, done.stderr[-2000:]
    for graph in ("vision", "language"):
        for path in (exported / graph).iterdir():
            assert (tmp_path / "out" / graph / path.name).read_bytes() == path.read_bytes(), path


FEATURES = """
import os, sys, zlib
os.environ["MKL_DEBUG_CPU_TYPE"] = "5"
import numpy as np
from paddle import inference
from ops import library
from ops.framework import programs
folder, case, impl = sys.argv[1:]
if impl == "fused":
    library.load()
case = np.load(case)
mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
pixels = ((case["images_u8"].astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
config = inference.Config(folder + "/" + programs.file_name(), folder + "/model.pdiparams")
config.disable_gpu()
config.disable_glog_info()
config.disable_mkldnn()
predictor = inference.create_predictor(config)
predictor.get_input_handle("pixels").copy_from_cpu(np.ascontiguousarray(pixels))
predictor.get_input_handle("image_features").copy_from_cpu(np.zeros_like(case["image_features"]))
predictor.run()
features = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
print("RESULT", np.abs(features - case["image_features"]).max())
"""


def test_exported_weights_give_the_golden_features(exported, impl, tiny):
    output = run_code(FEATURES, exported / "vision", tiny / "case1_vision.npz", impl)
    assert float(output.partition("RESULT ")[2].split()[0]) < 3e-5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_parameters_take_half_the_room(tmp_path, dtype):
    done = run("-m", "export", "vision", GOLDEN, tmp_path, "--dtype", dtype)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ["vision"]
    values = sum(math.prod(shape) for shape in parameter_shapes(ModelConfig.load(GOLDEN), "vision").values())
    size = (tmp_path / "vision" / "model.pdiparams").stat().st_size
    assert 2 * values < size < 2 * values + 3000
    assert json.loads((tmp_path / "vision" / "manifest.json").read_text())["dtype"] == dtype
