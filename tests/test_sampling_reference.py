"""The numpy reference of the sampling filters against the transformers library (own process: torch)."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPARE = """
import numpy as np
import torch
from transformers.generation import logits_process as p
from tests.sampling_reference import probabilities

cases = [dict(temperature=0.7), dict(temperature=1.0, top_k=5), dict(temperature=1.3, top_p=0.6),
         dict(temperature=2.0, top_k=20, top_p=0.8), dict(temperature=1.0, repetition_penalty=1.4, top_p=0.9),
         dict(temperature=1.0, min_new_tokens=3, top_k=4), dict(temperature=1.0, top_p=1e-4)]
for seed, given in enumerate(cases):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal(60) * 3
    seen, stops, count = [4, 9, 9, 31], [int(logits.argmax()), 2], seed % 4
    chain = [p.RepetitionPenaltyLogitsProcessor(given.get("repetition_penalty", 1.0)),
             p.MinNewTokensLengthLogitsProcessor(len(seen) - count, given.get("min_new_tokens", 0),
                                                 torch.tensor(stops)),
             p.TemperatureLogitsWarper(given["temperature"])]
    chain += [p.TopKLogitsWarper(given["top_k"])] if "top_k" in given else []
    chain += [p.TopPLogitsWarper(given["top_p"])] if "top_p" in given else []
    scores = torch.tensor(logits)[None]
    for processor in chain:
        scores = processor(torch.tensor([seen]), scores)
    theirs = scores.softmax(-1)[0].numpy()
    ours = probabilities(logits, **given, seen=seen, stop_tokens=stops, count=count)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=str(given))
print(len(cases), "equal")
"""


def test_filters_are_those_of_transformers():
    python = os.environ.get("TORCH_PYTHON") or sys.executable
    done = subprocess.run([python, "-c", COMPARE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 equal\n"
