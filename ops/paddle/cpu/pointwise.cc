#include "ops/paddle/cpu/pointwise.h"

#include <cmath>
#include <cstring>

#include "ops/paddle/cpu/parallel.h"

namespace qwen_vl::cpu {
namespace {

// exp() as branch-free code that the compiler vectorises: 2^n times a degree-6 polynomial on [-ln2/2, ln2/2]
// (Cephes expf coefficients); relative error below 2e-7.
inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float n = std::nearbyintf(x * 1.44269504088896341f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

// erf() by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
inline float fast_erf(float x) {
  const float a = std::fabs(x);
  const float t = 1.0f / (1.0f + 0.3275911f * a);
  const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  return std::copysign(1.0f - p * fast_exp(-a * a), x);
}

}  // namespace

void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* out, int64_t rows,
                int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > kParallelValues)
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * width;
    float* to = out + r * width;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < width; ++c) sum += in[c];
    const float mean = sum / width;
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < width; ++c) squares += (in[c] - mean) * (in[c] - mean);
    const float scale = 1.0f / std::sqrt(squares / width + eps);
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) to[c] = (in[c] - mean) * scale * weight[c] + bias[c];
  }
}

void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > kParallelValues)
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * width;
    float* to = out + r * width;
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < width; ++c) squares += in[c] * in[c];
    const float scale = 1.0f / std::sqrt(squares / width + eps);
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) to[c] = in[c] * scale * weight[c];
  }
}

void add_bias(float* x, const float* bias, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > kParallelValues)
  for (int64_t r = 0; r < rows; ++r)
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) x[r * width + c] += bias[c];
}

void bias_gelu(float* x, const float* bias, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > kParallelValues)
  for (int64_t r = 0; r < rows; ++r) {
    float* row = x + r * width;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const float v = row[c] + bias[c];
      row[c] = 0.5f * v * (1.0f + fast_erf(v * 0.70710678118654752f));
    }
  }
}

void silu_mul(float* gate_up, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > kParallelValues)
  for (int64_t r = 0; r < rows; ++r) {
    float* gate = gate_up + r * 2 * width;
    const float* up = gate + width;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) gate[c] = up[c] * gate[c] / (1.0f + fast_exp(-gate[c]));
  }
}

void softmax_row(float* x, int64_t valid, int64_t width) {
  float top = x[0];
#pragma omp simd reduction(max : top)
  for (int64_t c = 0; c < valid; ++c) top = x[c] > top ? x[c] : top;
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < valid; ++c) {
    x[c] = fast_exp(x[c] - top);
    sum += x[c];
  }
  const float scale = 1.0f / sum;
#pragma omp simd
  for (int64_t c = 0; c < valid; ++c) x[c] *= scale;
  for (int64_t c = valid; c < width; ++c) x[c] = 0.0f;
}

}  // namespace qwen_vl::cpu
