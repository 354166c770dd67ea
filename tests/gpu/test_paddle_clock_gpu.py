"""The stream that the GPU's clock watches is the one that Paddle's graphs run on: the spans hold the device's work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.process import Worker
from tests.gpu.kernels import has_gpu

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "tests" / "data" / "tiny" / "checkpoint"
PASSES, STEPS = 10, 15
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="needs an NVIDIA GPU, none answers here")]


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    done = subprocess.run([sys.executable, "-m", "export", "all", CHECKPOINT, folder / "exported", "--dtype",
                           "float16"], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = Worker("bench.arms.paddle_arm:PaddleArm", sys.executable, folder / "log")
    made.wait_ready()
    made.call("load", source=str(folder / "exported"), dtype="float16", device="gpu", threads=1)
    made.image = str(folder / "image.npy")
    np.save(made.image, np.full([64, 64, 3], 90, np.uint8))
    yield made
    made.close()


def measure(worker, batch, text=2, **args):
    """Stages of the later passes over `batch` equal rows, an image and `text` tokens each."""
    start = json.loads((CHECKPOINT / "config.json").read_text())["visual"]["image_start_id"]
    prompt = [5, start, *[start + 2] * 256, start + 1, *[6] * text]
    worker.call("prepare", image=worker.image, prompts=[prompt] * batch, new_tokens=STEPS + 1)
    return [worker.call("measure", **args)["stages"] for _ in range(PASSES)][PASSES // 2:]


def median(passes, stage):
    return float(np.median([ms for stages in passes for ms in stages[stage]]))


def test_gpu_times_lie_within_the_hosts(worker):
    for stages in measure(worker, 4):
        assert 0 < stages["vision_gpu"][0] <= stages["vision"][0]
        assert 0 < stages["prefill_gpu"][0] <= stages["prefill"][0]
        assert 0 < stages["token_gpu"][0] <= stages["token"][0]
    assert worker.call("peak_memory")["clock"] == "CUDA events of the driver"


def test_work_is_on_the_watched_stream(worker):
    """On another stream the events would be as far apart as the launches, whose time does not follow the work.

    The card must have nothing else to do meanwhile: work of other processes hides the difference.
    """
    few, many = measure(worker, 1), measure(worker, 64, text=700)
    assert median(many, "prefill_gpu") > 3 * median(few, "prefill_gpu")


def test_cold_pass_times_every_step(worker):
    stages = measure(worker, 4, cold=True)[-1]
    assert len(stages["token_cold"]) == STEPS and all(ms > 0 for ms in stages["token_cold"])
    assert len(stages["vision_cold"]) == len(stages["prefill_cold"]) == 1
