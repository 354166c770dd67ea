// Calls of the CUDA launchers: stream, workspace and context come from here, failures become exceptions.
#pragma once
#include "ops/kernels/context.h"
#include "paddle/extension.h"

namespace qwen_vl {

#ifdef PADDLE_WITH_CUDA
// The calling thread's context for the device of `tensor`.
QwenVlContext* context(const paddle::Tensor& tensor);

// Throws unless `status` is success.
void check_status(int status, const char* op);

// Runs `launcher` on Paddle's stream of the device of `on`, with the workspace that it asks for. The workspace goes back
// to Paddle's allocator, which hands memory out again in stream order.
template <typename Arguments>
void launch(const char* op, const paddle::Tensor& on, const Arguments& arguments, size_t (*workspace_bytes)(const Arguments*),
            int (*launcher)(QwenVlContext*, const Arguments*, void*, size_t, cudaStream_t)) {
  const size_t bytes = workspace_bytes(&arguments);
  paddle::Tensor workspace =
      paddle::empty({static_cast<int64_t>(bytes)}, paddle::DataType::UINT8, on.place());
  check_status(launcher(context(on), &arguments, workspace.data(), bytes, on.stream()), op);
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
