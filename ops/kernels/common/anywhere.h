// Functions that the host and devices share; no CUDA header.
#pragma once

#ifdef __CUDACC__
#define QWEN_VL_ANYWHERE __host__ __device__ inline
#else
#define QWEN_VL_ANYWHERE inline
#endif
