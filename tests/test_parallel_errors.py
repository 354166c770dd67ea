"""An error inside a parallel region of the CPU kernels comes out as an exception: the process lives on."""

import shlex
import subprocess

import pytest

from ops import toolchain
from ops.build import BINDINGS, ROOT

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


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_product_that_fails_inside_the_attention(tmp_path, threads):
    (tmp_path / "main.cc").write_text(PROGRAM)
    kernels = [BINDINGS / "cpu" / f"{name}.cc" for name in ("attention", "blas", "dot", "pointwise")]
    subprocess.run([*shlex.split(toolchain.compiler()), "-std=c++17", "-fopenmp", f"-I{ROOT}", tmp_path / "main.cc", *kernels, "-o",
                    tmp_path / "program"], check=True)
    done = subprocess.run([tmp_path / "program"], env={"OMP_NUM_THREADS": threads}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["oneDNN sgemm failed with status 7"] * 3
