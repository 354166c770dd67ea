// RMSNorm and LayerNorm with their statistics, for any width: the operators of fused_ln.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace stock {

enum class NormType { kFloat32, kFloat16, kBfloat16 };

// y[r] = x[r] / rms(x[r]) * weight without `bias` and `mean`; y[r] = (x[r] - mean) / deviation * weight + bias with
// them. Statistics are fp32. RMSNorm rounds to the type before the weight is multiplied, as its reference does.
struct Norm {
  const void *x, *weight, *bias;
  void* y;
  float *mean, *inverse_deviation;  // [rows]
  int64_t rows;
  int width;
  float epsilon;
};

// Returns a cudaError_t.
int norm_cuda(const Norm& norm, NormType type, CUstream_st* stream);

}  // namespace stock
