// The host's side of kernels written for sm_90a: whether the device can run one, and launches in clusters of two.
#pragma once

#include <cuda_runtime.h>

#include "ops/kernels/common/per_device.h"

#if CUDART_VERSION >= 12000
#include <utility>

namespace qwen {

// Whether this build has code of the kernel with sm_90a's instructions and the current device runs it; if so it may
// then use `shared_bytes` of dynamic shared memory there. The code of other targets is bounded to one thread a block,
// which tells it apart here. Asked and set once for each device: not to be kept in a `static`.
template <typename... Parameters> bool can_run(void (*kernel)(Parameters...), int threads, int shared_bytes) {
  return once_per_device(reinterpret_cast<const void*>(kernel), [&] {
    cudaFuncAttributes attributes;
    const bool able =
        cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.maxThreadsPerBlock >= threads &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes) == cudaSuccess;
    if (!able) cudaGetLastError();  // the failure is answered, and is not to be found by the next caller
    return able;
  });
}

// Launches clusters of two blocks, neighbours in x; grid.x is even. Returns a cudaError_t.
template <typename... Parameters, typename... Arguments>
int launch_pairs(void (*kernel)(Parameters...), dim3 grid, int threads, int shared_bytes, cudaStream_t stream,
                 Arguments&&... arguments) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = 2;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace qwen
#endif
