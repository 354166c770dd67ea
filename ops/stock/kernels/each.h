// One function over an index range, by a loop on the CPU or by a kernel on a CUDA stream. Kernels that move or change
// elements one by one are written once, as such functions, and run on both.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define STOCK_FUNCTION __host__ __device__ __forceinline__
#else
#define STOCK_FUNCTION inline
#endif

struct CUstream_st;

namespace stock {

// What a copy moves at once: 16 bytes where rows allow it, else one half-precision value.
struct alignas(16) Unit16 {
  unsigned long long low, high;
};
using Unit2 = unsigned short;

template <typename Body>
void each_cpu(int64_t count, const Body& body) {
  constexpr int64_t kWorthThreads = 1 << 14;
#pragma omp parallel for schedule(static) if (count >= kWorthThreads)
  for (int64_t i = 0; i < count; ++i) body(i);
}

// Returns a cudaError_t; defined in each.cu for every function of this folder.
template <typename Body>
int each_cuda(int64_t count, const Body& body, CUstream_st* stream);

}  // namespace stock
