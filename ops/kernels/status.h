// Status codes of every launcher: 0 is success, a positive code below 10000 is a cudaError_t.
#pragma once

enum QwenVlStatus {
    QWEN_VL_OK = 0,
    QWEN_VL_BLAS_MISSING = 10001,      // no libcublasLt of CUDA 11, 12 or 13 can be loaded
    QWEN_VL_BLAS_REFUSED = 10002,      // cuBLASLt has no algorithm for a matrix product
    QWEN_VL_UNSUPPORTED = 10003,       // a shape or type that the kernels do not cover
    QWEN_VL_WORKSPACE_SMALL = 10004,   // less workspace than the *_workspace function asked for
};

#ifdef __cplusplus
extern "C"
#endif
const char* qwen_vl_status_text(int status);
