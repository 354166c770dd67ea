// Norms and activations of the CPU kernels, parallel over rows.
#pragma once
#include <cstdint>

namespace qwen_vl::cpu {

// out[r] = (x[r] - mean) / sqrt(var + eps) * weight + bias over `width` values of each row.
void layer_norm(const float* x, const float* weight, const float* bias, float eps, float* out, int64_t rows,
                int64_t width);

// out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight.
void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t rows, int64_t width);

// x[r, c] += bias[c].
void add_bias(float* x, const float* bias, int64_t rows, int64_t width);

// x[r, c] = gelu(x[r, c] + bias[c]) with the exact (erf) GELU.
void bias_gelu(float* x, const float* bias, int64_t rows, int64_t width);

// gate_up [rows, 2 * width] holds gate then up; gate[r, c] = up[r, c] * silu(gate[r, c]), in place.
void silu_mul(float* gate_up, int64_t rows, int64_t width);

// In-place softmax of one row's first `valid` values; the rest becomes zero.
void softmax_row(float* x, int64_t valid, int64_t width);

}  // namespace qwen_vl::cpu
