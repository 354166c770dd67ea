// The operators on the CPU: fp32, one function each, taking what the CUDA launchers take (ops/kernels/*.h) with every
// pointer in host memory. Weight names, shapes and layouts are those of ops/weights.py; the functions' meaning is
// that of ops/functional.py.
#pragma once
#include <cstdint>

#include "ops/kernels/prefill/decoder.h"
#include "ops/kernels/prefill/embedding.h"
#include "ops/kernels/sampling/lm_head.h"
#include "ops/kernels/sampling/sample.h"
#include "ops/kernels/vision/encoder.h"
#include "ops/kernels/vision/resampler.h"

namespace qwen_vl::cpu {

void vision_encoder(const QwenVlVisionEncoder& p);
void resampler(const QwenVlResampler& p);
void embedding(const QwenVlEmbedding& p);
void decoder(const QwenVlDecoder& p);
void lm_head(const QwenVlLmHead& p);
void sample(const QwenVlSample& p);

// Row `row` of a stack of fp32 rows.
inline const float* floats(const void* base, int64_t row = 0, int64_t width = 0) {
  return static_cast<const float*>(base) + row * width;
}
inline float* floats(void* base, int64_t row = 0, int64_t width = 0) { return static_cast<float*>(base) + row * width; }

}  // namespace qwen_vl::cpu
