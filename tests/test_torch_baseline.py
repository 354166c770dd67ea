"""The torch baseline against the golden data, in both attention forms (needs no paddle)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests/data/tiny"
FEATURES, LOGITS, LOGITS_LONG = 3e-5, 2e-4, 1.2e-3
CASES = sorted(path.stem for path in TINY.glob("case[2-7]*.npz"))


@pytest.fixture(scope="module")
def differences():
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    done = subprocess.run([python, str(ROOT / "tests/torch_golden.py"), str(TINY)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_image_features(differences, attention):
    assert differences[attention]["case1_vision"]["features"] <= FEATURES


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_logits_and_tokens(differences, attention, case):
    limit = LOGITS_LONG if case.startswith(("case6", "case7")) else LOGITS
    found = differences[attention][case]
    assert found["tokens_equal"]
    assert found["logits"] <= limit
    assert found["greedy_logits"] <= limit


def test_all_cases_are_here():
    assert [case[4] for case in CASES] == list("234") + ["5", "5", "6", "7"]
