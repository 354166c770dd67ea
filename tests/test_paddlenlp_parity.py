"""PyPI's paddlenlp loads the converted golden checkpoint and gives the reference's logits."""

import json

from checkpoint_files import GOLDEN, run_code

from export.convert import convert

CODE = """
import json, sys, zlib
import numpy as np, paddle
from paddlenlp.transformers import QWenConfig, QWenForCausalLM
folder, case = sys.argv[1:]
missing, unexpected = QWenForCausalLM(QWenConfig.from_pretrained(folder)).set_state_dict(
    paddle.load(folder + "/model_state.pdparams"))
model = QWenForCausalLM.from_pretrained(folder, dtype="float32")
model.eval()
case = np.load(case)
logits = model(paddle.to_tensor(case["input_ids"]))
logits = (logits[0] if isinstance(logits, (list, tuple)) else logits).numpy()
print("RESULT " + json.dumps({"missing": missing, "unexpected": unexpected,
      "error": float(np.abs(logits[:, case["logit_positions"]] - case["logits"]).max())}))
"""


def test_paddlenlp_gives_the_golden_logits(tmp_path, tiny, stock_paddle):
    convert(GOLDEN, tmp_path / "converted")
    output = run_code(CODE, tmp_path / "converted", tiny / "case2_text.npz")
    result = json.loads(output.partition("RESULT ")[2].splitlines()[0])
    assert result["missing"] == []
    assert [name for name in result["unexpected"] if not name.startswith("visual.")] == []
    assert result["error"] < 2e-4
