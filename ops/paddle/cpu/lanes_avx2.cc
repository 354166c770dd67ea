#if defined(__x86_64__)
// What knows no vectors comes before the target: other files compile it as well, and the linker keeps any one of them.
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/lanes.h"
#include "ops/paddle/cpu/parallel.h"

#pragma GCC target("avx2,fma,f16c")
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 warns of its own headers
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include "ops/formats/avx2.h"
#include "ops/paddle/cpu/lanes_of.h"

namespace qwen_vl::cpu {

bool lane_linear_avx2(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n,
                      int64_t k, bool accumulate) {
  return lane_linear_by<qwen::Avx2>(a, lda, w, c, ldc, m, n, k, accumulate);
}

}  // namespace qwen_vl::cpu
#endif
