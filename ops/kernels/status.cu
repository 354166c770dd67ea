#include "status.h"

#include <cuda_runtime_api.h>

extern "C" const char* qwen_vl_status_text(int status) {
    switch (status) {
        case QWEN_VL_OK: return "success";
        case QWEN_VL_BLAS_MISSING: return "libcublasLt (CUDA 11, 12 or 13) cannot be loaded";
        case QWEN_VL_BLAS_REFUSED: return "cuBLASLt has no algorithm for a matrix product";
        case QWEN_VL_UNSUPPORTED: return "the kernels do not cover this shape or type";
        case QWEN_VL_WORKSPACE_SMALL: return "the workspace is smaller than the size asked for";
        default: return cudaGetErrorString(static_cast<cudaError_t>(status));
    }
}
