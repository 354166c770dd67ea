// The stream's type without the CUDA headers, which a machine that builds the CPU kernels alone does not have.
#pragma once

typedef struct CUstream_st* cudaStream_t;
