"""Why switches of Paddle Inference are left alone where programs are .json files."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.framework import programs

ROOT = Path(__file__).parents[1]
LOAD = """
import sys, zlib
from paddle import inference
config = inference.Config(*sys.argv[1:])
config.disable_gpu()
config.disable_glog_info()
config.enable_memory_optim(True)
inference.create_predictor(config)
"""


@pytest.mark.skipif(programs.file_name() != "model.json", reason="programs of this Paddle are no .json files")
def test_memory_optimisation_fails_on_them(tmp_path, tiny):
    subprocess.run([sys.executable, "-m", "export", "vision", tiny / "checkpoint", tmp_path, "--impl", "native"],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    files = [tmp_path / "vision" / name for name in ("model.json", "model.pdiparams")]
    done = subprocess.run([sys.executable, "-c", LOAD, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "memory_optimize_pass" in done.stderr
