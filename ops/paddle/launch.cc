#ifdef PADDLE_WITH_CUDA
#include "ops/paddle/launch.h"

#include <cuda_runtime_api.h>

#include <map>
#include <unordered_map>

#include "ops/kernels/status.h"

namespace qwen_vl {
namespace {

constexpr size_t kMaxGraphs = 64;  // shapes and addresses repeat; should they not, old graphs go

struct Recorded {
  cudaGraphExec_t graph = nullptr;
  bool direct = false;  // could not be recorded: always launched kernel by kernel
};

void forget(std::unordered_map<std::string, Recorded>& calls) {
  for (auto& [key, recorded] : calls)
    if (recorded.graph != nullptr) cudaGraphExecDestroy(recorded.graph);
  calls.clear();
}

// Records one call; null when the stream or the call cannot be recorded.
cudaGraphExec_t record(cudaStream_t stream, const std::function<int()>& call) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const int status = call();
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && status == QWEN_VL_OK &&
        cudaGraphInstantiateWithFlags(&executable, graph, 0) != cudaSuccess)
      executable = nullptr;
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // what failed above is answered by launching directly
  return executable;
}

}  // namespace

QwenVlContext* context(const paddle::Tensor& tensor) {
  struct Held {
    QwenVlContext* context = nullptr;
    paddle::Tensor workspace;
  };
  // Kept until the process ends, as CUDA's own state is; Paddle's allocator may be gone by then.
  thread_local auto& contexts = *new std::map<int, Held>();
  Held& held = contexts[tensor.place().GetDeviceId()];
  if (held.context == nullptr) {
    const int64_t bytes = QWEN_VL_GEMM_WORKSPACE;
    held.workspace = paddle::empty({bytes}, paddle::DataType::UINT8, tensor.place());
    check_status(qwen_vl_context_create(&held.context, held.workspace.data()), "cuBLASLt");
  }
  return held.context;
}

void* workspace(const paddle::Tensor& on, size_t bytes) {
  // Not freed at exit: Paddle's allocator may be gone by then.
  thread_local auto& held = *new std::map<int, paddle::Tensor>();
  paddle::Tensor& tensor = held[on.place().GetDeviceId()];
  if (!tensor.initialized() || static_cast<size_t>(tensor.numel()) < bytes)
    tensor = paddle::empty({static_cast<int64_t>(bytes)}, paddle::DataType::UINT8, on.place());
  return tensor.data();
}

void* private_workspace(const paddle::Tensor& on, size_t bytes, const std::string& op) {
  thread_local auto& held = *new std::map<std::pair<int, std::string>, paddle::Tensor>();
  paddle::Tensor& tensor = held[{on.place().GetDeviceId(), op}];
  if (!tensor.initialized() || static_cast<size_t>(tensor.numel()) < bytes) {
    tensor = paddle::empty({static_cast<int64_t>(bytes)}, paddle::DataType::UINT8, on.place());
    check_status(cudaMemsetAsync(tensor.data(), 0, bytes, on.stream()), op.c_str());
  }
  return tensor.data();
}

void check_status(int status, const char* op) {
  if (status == QWEN_VL_OK) status = qwen_vl_gave_up();  // of kernels launched before
  PD_CHECK(status == QWEN_VL_OK, op, " failed: ", qwen_vl_status_text(status));
}

void run_or_replay(const std::string& key, cudaStream_t stream, const std::function<int()>& call, const char* op) {
  thread_local std::unordered_map<std::string, Recorded> calls;
  const auto found = calls.find(key);
  if (found == calls.end()) {  // first: library handles, algorithm choice and lazily loaded kernels settle
    if (calls.size() >= kMaxGraphs) forget(calls);
    calls[key];
    return check_status(call(), op);
  }
  Recorded& recorded = found->second;
  if (recorded.graph == nullptr && !recorded.direct) {
    recorded.graph = record(stream, call);
    recorded.direct = recorded.graph == nullptr;
  }
  if (recorded.direct) return check_status(call(), op);
  check_status(cudaGraphLaunch(recorded.graph, stream), op);
}

}  // namespace qwen_vl
#endif
