"""Every matrix product of the kernels says in which format its weights are.

A QwenVlGemm that is made by hand names float16 where it names none, and is refused only on a GPU, with bfloat16.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
BY_HAND = re.compile(r"\bQwenVlGemm \w+(?:\{|;)")


def test_products_are_made_by_the_one_function_that_sets_the_format():
    header = ROOT / "ops" / "kernels" / "products" / "gemm.h"
    makers = {path for kind in ("*.cu", "*.cuh", "*.h", "*.cc") for path in (ROOT / "ops").rglob(kind)
              if BY_HAND.search(path.read_text(encoding="utf-8"))}
    assert makers == {header}
