#include "ops/paddle/cpu/lanes.h"

namespace qwen_vl::cpu {
namespace {

using Linear = decltype(&lane_linear_avx2);

// The one for this processor; null if there is none.
Linear chosen() {
#if defined(__x86_64__)
  const auto has = [](auto... found) { return (found && ...); };
  if (has(__builtin_cpu_supports("avx512f"), __builtin_cpu_supports("avx512bw"), __builtin_cpu_supports("avx512vl"),
          __builtin_cpu_supports("avx512dq")))
    return lane_linear_avx512;
  if (has(__builtin_cpu_supports("avx2"), __builtin_cpu_supports("fma"), __builtin_cpu_supports("f16c")))
    return lane_linear_avx2;
#endif
  return nullptr;
}

}  // namespace

bool lane_linear(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n, int64_t k,
                 bool accumulate) {
  static const Linear linear = chosen();
  return linear != nullptr && linear(a, lda, w, c, ldc, m, n, k, accumulate);
}

}  // namespace qwen_vl::cpu
