"""Code for a CPU's wider vectors is in functions that no other source file has a copy of: of those the linker keeps any
one, and a CPU without such vectors would run it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

OBJECTS = sorted(Path(os.environ.get("QWEN_VL_OPS", "build/ops/cpu/lib")).parent.glob("*lanes_avx*.o"))
SHARED = re.compile(r" [Wu] (?!.*qwen::Avx)")   # kept once by the linker, and made for no kind of vectors


@pytest.mark.skipif(not OBJECTS, reason="the operators were built elsewhere, their objects are not beside them")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_nothing_is_shared(path):
    lines = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if SHARED.search(line)] == []
