"""An error inside a parallel region of the CPU kernels comes out as an exception: the process lives on."""

import pytest

from ops.build import BINDINGS
from tests import cpp

# Stands in for oneDNN, whose products of rows run inside the attention's region: it refuses each of them.
PROGRAM = """
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>
#include "ops/paddle/cpu/attention.h"

extern "C" int dnnl_sgemm(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t,
                          float, float*, int64_t) { return 7; }

int main() {
  std::vector<float> values(4096);
  const int32_t queries[] = {5, 64}, past[] = {0, 0};
  qwen_vl::cpu::Attention a{};
  a.query = a.key = a.value = values.data(), a.out = values.data();
  a.batch = 2, a.heads = 3, a.head_dim = 8, a.queries = queries, a.past = past, a.causal = true, a.scale = 1.0f;
  for (int call = 0; call < 3; ++call) {
    try {
      qwen_vl::cpu::attention(a);
    } catch (const std::exception& e) {
      std::puts(e.what());
    }
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    kernels = [BINDINGS / "cpu" / f"{name}.cc" for name in ("attention", "blas", "dot", "pointwise",
                                                          "lanes", "lanes_avx2", "lanes_avx512")]
    return cpp.program(tmp_path_factory.mktemp("attention"), PROGRAM, *kernels)


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_product_that_fails_inside_the_attention(program, threads):
    assert cpp.lines(program, OMP_NUM_THREADS=threads) == ["oneDNN sgemm failed with status 7"] * 3
