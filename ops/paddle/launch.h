// Calls of the CUDA launchers: stream, workspace and context come from here, failures become exceptions.
#pragma once
#include <functional>
#include <string>

#include "ops/kernels/context.h"
#include "paddle/extension.h"

namespace qwen_vl {

#ifdef PADDLE_WITH_CUDA
// The calling thread's context for the device of `tensor`.
QwenVlContext* context(const paddle::Tensor& tensor);

// At least `bytes` of device memory that stay where they are from call to call; calls of one thread share them, in
// stream order.
void* workspace(const paddle::Tensor& on, size_t bytes);

// Device memory of the same kind for `op` alone, zero before its first use.
void* private_workspace(const paddle::Tensor& on, size_t bytes, const std::string& op);

// Throws unless `status` is success.
void check_status(int status, const char* op);

// Runs `call` on `stream` the first time that `key` is seen, records it into a CUDA graph the second time, and replays
// the graph from then on: a call of hundreds of kernels costs one launch. `key` holds everything the call depends on.
void run_or_replay(const std::string& key, cudaStream_t stream, const std::function<int()>& call, const char* op);

// Runs `launcher` on Paddle's stream of the device of `on`, with the workspace that it asks for.
template <typename Arguments>
void launch(const char* op, const paddle::Tensor& on, const Arguments& arguments,
            size_t (*workspace_bytes)(const Arguments*),
            int (*launcher)(QwenVlContext*, const Arguments*, void*, size_t, cudaStream_t)) {
  const size_t bytes = workspace_bytes(&arguments);
  void* const memory = workspace(on, bytes);
  std::string key(op);
  key.append(reinterpret_cast<const char*>(&arguments), sizeof arguments);
  key.append(reinterpret_cast<const char*>(&memory), sizeof memory);
  QwenVlContext* const held = context(on);
  const cudaStream_t stream = on.stream();
  run_or_replay(key, stream, [&] { return launcher(held, &arguments, memory, bytes, stream); }, op);
}
#endif

}  // namespace qwen_vl

// `QWEN_VL_LAUNCH(op, tensor, arguments, function)`: function's workspace size is function_workspace's.
// QWEN_VL_LAUNCH_PLAIN: function takes neither workspace nor context.
#ifdef PADDLE_WITH_CUDA
#define QWEN_VL_LAUNCH(op, on, arguments, function) \
  ::qwen_vl::launch(op, on, arguments, function##_workspace, function)
#define QWEN_VL_LAUNCH_PLAIN(op, on, arguments, function) \
  ::qwen_vl::check_status(function(&arguments, (on).stream()), op)
#else
#define QWEN_VL_LAUNCH_PLAIN QWEN_VL_LAUNCH
#define QWEN_VL_LAUNCH(op, on, arguments, function) \
  PD_THROW(op, " was built for the CPU only: run `make ops DEVICE=gpu`")
#endif
