"""Products with quantised matrices on a CPU: each kind of instructions against the matrix as numpy unpacks it."""

import subprocess

import numpy as np
import pytest

from ops import formats, target
from ops.build import ROOT
from tests import cpp

PROGRAM = """
#include <cstdio>
#include <string>
#include <vector>
#include "ops/formats/registry.h"
#include "ops/paddle/cpu/lanes.h"

namespace qwen_vl::cpu {
// As in blas.cc, there by oneDNN.
void linear(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t m, int64_t n,
            int64_t k, bool accumulate) {
  for (int64_t row = 0; row < m; ++row)
    for (int64_t i = 0; i < n; ++i) {
      double sum = accumulate ? c[row * ldc + i] : 0;
      for (int64_t j = 0; j < k; ++j) sum += double{a[row * lda + j]} * w[i * ldw + j];
      c[row * ldc + i] = sum;
    }
}
}  // namespace qwen_vl::cpu

int main(int, char** arguments) {
  long m, n, k, bytes;
  int accumulate;
  std::sscanf(arguments[3], "%ld,%ld,%ld,%ld,%d", &m, &n, &k, &bytes, &accumulate);
  std::vector<char> matrix(bytes);
  std::vector<float> a(m * (k + 3)), c(m * (n + 5));
  if (std::fread(matrix.data(), 1, bytes, stdin) != size_t(bytes)) return 1;
  if (std::fread(a.data(), 4, a.size(), stdin) != a.size() || std::fread(c.data(), 4, c.size(), stdin) != c.size())
    return 1;
  const std::string kind = arguments[1];
  const auto linear = kind == "avx512" ? qwen_vl::cpu::lane_linear_avx512 :
                      kind == "avx2" ? qwen_vl::cpu::lane_linear_avx2 : qwen_vl::cpu::lane_linear;
  const qwen_vl::cpu::Weights weights{qwen::format_number(arguments[2]), matrix.data(), nullptr};
  if (!linear(a.data(), k + 3, weights, c.data(), n + 5, m, n, k, accumulate)) return 2;
  std::fwrite(c.data(), 4, c.size(), stdout);
}
"""
NEEDED = {"avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"}, "avx2": {"avx2", "fma", "f16c"}, "chosen": set()}
FORMATS = [format.name for format in formats.quantised()]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    sources = [ROOT / "ops" / "paddle" / "cpu" / name for name in ("lanes.cc", "lanes_avx512.cc", "lanes_avx2.cc")]
    return cpp.program(tmp_path_factory.mktemp("program"), PROGRAM, "-O2", *sources)


def product(program, kind, name, words, a, before, accumulate):
    """(status, c) of a product of a [m, k + 3] with a packed matrix, over `before` [m, n + 5]."""
    (m, wide), n = a.shape, before.shape[1] - 5
    done = subprocess.run([program, kind, name, f"{m},{n},{wide - 3},{words.nbytes},{int(accumulate)}"],
                          input=words.tobytes() + a.tobytes() + before.tobytes(), capture_output=True)
    return done.returncode, np.frombuffer(done.stdout, np.float32).reshape(-1, n + 5)


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize("name", FORMATS)
def test_products(program, kind, name):
    if not NEEDED[kind] <= set(target.cpu()):
        pytest.skip(f"this processor has no {kind}")
    format, rng = formats.get(name), np.random.default_rng(0)
    for n, k, rows in ((8, 128, range(1, 10)), (24, 384, (1, 3, 12)), (1032, 256, (1, 40))):
        packed = format.pack(rng.standard_normal((n, k)).astype(np.float32) + 0.3)
        exact = format.unpack(packed).astype(np.float64)
        for m in rows:
            a = rng.standard_normal((m, k + 3)).astype(np.float32) + np.float32(0.5)
            for accumulate in (False, True):
                before = rng.standard_normal((m, n + 5)).astype(np.float32)
                status, c = product(program, kind, name, packed[0], a, before, accumulate)
                assert status == 0
                expected = a[:, :k].astype(np.float64) @ exact.T + (before[:, :n] if accumulate else 0)
                limit = 2e-6 * np.abs(a[:, :k]).astype(np.float64) @ np.abs(exact).T + 1e-6
                assert (np.abs(c[:, :n] - expected) <= limit).all()
                np.testing.assert_array_equal(c[:, n:], before[:, n:])


def test_formats_of_other_places_are_left_to_others(program):
    none = np.zeros((8, 128), np.float32)
    assert product(program, "chosen", "float32", none, np.zeros((1, 131), np.float32), np.zeros((1, 13), np.float32),
                   False)[0] == 2
