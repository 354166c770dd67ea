"""PyPI's paddlenlp over paddlenlp_ops and fused_ln reproduces the golden cases; what cannot run here says why."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoint_files import GOLDEN, REPOSITORY

from core.config import ModelConfig
from core.errors import NotHere, UserError
from core.placement import CPU
from export.convert import convert
from infer import stock
from infer.graph import SCHEMA, Graph
from ops import toolchain

TEXT = """
import json, sys, zlib
import numpy as np, paddle, fused_ln
from paddlenlp.transformers import QWenForCausalLM
calls = []
own = fused_ln.fused_rms_norm
fused_ln.fused_rms_norm = lambda *values: (calls.append(1), own(*values))[1]
model = QWenForCausalLM.from_pretrained(sys.argv[1], dtype="float32", use_fused_rms_norm=True)
model.eval()
errors = {}
for path in sys.argv[2:]:
    case = np.load(path)
    for row, ids in enumerate(case["input_ids"]):
        used = np.flatnonzero(case["attention_mask"][row] if "attention_mask" in case else np.ones(len(ids)))
        with paddle.no_grad():
            logits = model(paddle.to_tensor(ids[None, used]))
        logits = (logits[0] if isinstance(logits, (list, tuple)) else logits).numpy()[0]
        positions = [p for p in case["logit_positions"] if p in used]
        expected = case["logits"][row][[list(case["logit_positions"]).index(p) for p in positions]]
        errors[f"{path} {row}"] = float(np.abs(logits[[list(used).index(p) for p in positions]] - expected).max())
print("RESULT " + json.dumps({"errors": errors, "calls": len(calls)}))
"""
IMAGE = """
import dataclasses, json, sys
sys.path.insert(0, "tests")
import stock_standins
import numpy as np, paddle
from paddlenlp.experimental.transformers import QWenForQWenVLInferenceModel
from core.config import ModelConfig
from export.checkpoint import open_checkpoint
from export.stock import load_model
from infer import stock
folder, tiny, scratch = sys.argv[1:]
checkpoint = open_checkpoint(folder)
case = np.load(tiny + "/case3_one_image.npz")
features = np.load(tiny + "/case1_vision.npz")["image_features"][case["image_index"]]
expected = case["greedy_tokens"]
config = dataclasses.replace(checkpoint.config, max_position_embeddings=384)
end = int(expected[0, 5])
import os
model = load_model(QWenForQWenVLInferenceModel, checkpoint, "float32")
found = []
for stop in (stock.NO_STOP, end):
    os.makedirs(f"{scratch}/{stop}")
    os.chdir(f"{scratch}/{stop}")
    made = stock.graph_inputs(config, case["input_ids"].tolist(), features, expected.shape[1], stop, "float32")
    caches = [paddle.zeros([2, 1, config.num_attention_heads, 384, config.kv_channels]) for _ in range(2)]
    model.generate_text_with_image_features(*(paddle.to_tensor(array) for array, _ in made), cache_kvs=caches)
    tokens, times = stock.read_tokens(".", expected.shape[1])
    found.append(stock.until_end(tokens, stop))
    assert times == sorted(times) and len(times) == tokens.shape[1]
print("RESULT " + json.dumps({"found": found, "end": end}))
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The golden checkpoint, converted."""
    return convert(GOLDEN, tmp_path_factory.mktemp("stock") / "converted")


@pytest.fixture
def run(stock_packages):
    """Run code with the packages on its path, for its RESULT."""
    def run(code, *arguments):
        env = {**os.environ, "PYTHONPATH": f"{stock_packages}{os.pathsep}{REPOSITORY}"}
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=REPOSITORY, env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.partition("RESULT ")[2].splitlines()[0])
    return run


def test_text_cases_with_fused_rms_norm(run, converted, tiny):
    result = run(TEXT, converted, tiny / "case2_text.npz", tiny / "case5a_batch_text.npz")
    assert result["calls"] == 3 * 5  # three rows, two norms in each of two layers, and the last
    assert len(result["errors"]) == 3 and max(result["errors"].values()) < 2e-4


def test_one_image_through_the_generation_loop(run, converted, tiny, tmp_path):
    """paddlenlp's own loop over paddlenlp_ops; five operators of Paddle's GPU wheel are stood in for."""
    result = run(IMAGE, converted, tiny, tmp_path)
    expected = np.load(tiny / "case3_one_image.npz")["greedy_tokens"].tolist()
    whole, stopped = result["found"]
    assert whole == expected
    assert stopped == [expected[0][:expected[0].index(result["end"]) + 1]]


def test_export_needs_the_gpu_wheel(converted, stock_packages, tmp_path):
    done = subprocess.run([sys.executable, "-m", "export.stock", converted, tmp_path / "out"], cwd=REPOSITORY,
                          env={**os.environ, "PYTHONPATH": stock_packages}, capture_output=True, text=True)
    if toolchain.paddle().gpu:
        assert done.returncode == 0 and (tmp_path / "out" / "language" / "model.pdmodel").is_file(), done.stderr[-2000:]
    else:
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "make setup DEVICE=gpu" in done.stderr and not (tmp_path / "out").exists()


@pytest.fixture
def stock_folder(tmp_path):
    """What looks like an exported stock model, without its graphs."""
    manifest = {"schema": SCHEMA, "graph": "language", "config": ModelConfig.load(GOLDEN).to_dict(), "dtype": "float16",
                "impl": "stock", "operators": "", "paddle": "2.6.2", "checkpoint": {"hash": "0"}, "files": {}}
    (tmp_path / "language").mkdir()
    (tmp_path / "language" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_the_stock_graph_is_refused_without_a_gpu(stock_folder, stock_paddle):
    with pytest.raises(NotHere, match="needs an NVIDIA GPU and the paddlepaddle-gpu wheel, .*: use IMPL=fused"):
        stock.StockEngine(stock_folder, "cpu")


def test_the_stock_graph_is_refused_where_the_wheel_has_no_kernels(stock_folder, stock_paddle, monkeypatch):
    from ops import selfcheck

    monkeypatch.setattr(stock.devices, "has_gpu", lambda: True)
    monkeypatch.setattr(stock.cuda_libraries, "check", lambda: None)
    monkeypatch.setattr(selfcheck, "wrong_in_paddle", lambda placement: ["softmax", "add"])
    with pytest.raises(NotHere, match="Paddle's own softmax, add give wrong .*no kernels for it .*: use IMPL=fused"):
        stock.usable_gpu("auto")


def test_the_engine_does_not_take_stock_graphs(stock_folder):
    with pytest.raises(UserError, match="make infer IMPL=stock"):
        Graph(stock_folder / "language", CPU)


@pytest.mark.parametrize("prompts, images, new_tokens, message", [
    ([[1, 2], [1]], 0, 4, "equal length"),
    ([[1, 2, 3]], 0, 4, "one at least"),
    ([[480, *[482] * 256, 481]], 1, 8000, "exceed the model's 8192 positions"),
])
def test_what_the_stock_graph_cannot_take(prompts, images, new_tokens, message):
    config = ModelConfig.load(GOLDEN)
    with pytest.raises(UserError, match=message):
        stock.graph_inputs(config, prompts, np.zeros([images, 256, config.hidden_size]), new_tokens, -1, "float16")


def test_missing_and_foreign_token_files(tmp_path):
    with pytest.raises(UserError, match="left no tokens"):
        stock.read_tokens(tmp_path, 3)
    (tmp_path / stock.TOKEN_FILES.format(1)).write_bytes(b"10" + bytes(8))
    with pytest.raises(UserError, match="holds no tokens"):
        stock.read_tokens(tmp_path, 3)
