#ifdef PADDLE_WITH_CUDA
#include "ops/paddle/launch.h"

#include <cuda_runtime_api.h>

#include <map>
#include <utility>

#include "ops/kernels/common/status.h"
#include "ops/paddle/recent.h"

namespace qwen_vl {
namespace {

constexpr size_t kMaxGraphs = 64;   // of a stream
constexpr size_t kMaxStreams = 16;  // Paddle has one for each device; a program may make others

struct DestroyGraph {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyGraph>;

// One call; null when it cannot be recorded. `stream` may not be one that waits for the legacy stream, as Paddle's is:
// while such a stream records, a plain copy of another thread fails, and with it the recording.
Graph record(cudaStream_t stream, const std::function<int(cudaStream_t)>& call) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const int status = call(stream);
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && status == QWEN_VL_OK &&
        cudaGraphInstantiateWithFlags(&executable, graph, 0) != cudaSuccess)
      executable = nullptr;
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // what failed above is answered by launching directly
  return Graph(executable);
}

struct Recorded {
  int calls = 0;
  Graph graph;  // null also where the call could not be recorded
};

paddle::Tensor bytes_on(const paddle::Tensor& on, size_t bytes) {
  return paddle::empty({static_cast<int64_t>(bytes)}, paddle::DataType::UINT8, on.place());
}

}  // namespace

struct StreamState {
  std::mutex mutex;
  int device = 0;
  QwenVlContext* context = nullptr;
  cudaStream_t recording = nullptr;
  paddle::Tensor products, shared;
  std::map<std::pair<std::string, size_t>, paddle::Tensor> own;  // as many as the models have kinds of decode steps
  Recent<std::string, Recorded> calls{kMaxGraphs};

  StreamState() = default;
  StreamState(const StreamState&) = delete;

  // The stream itself may be gone by then: all that was launched on its device is waited for.
  ~StreamState() {
    int current = 0;
    cudaGetDevice(&current);
    cudaSetDevice(device);
    cudaDeviceSynchronize();
    qwen_vl_context_destroy(context);
    if (recording != nullptr) cudaStreamDestroy(recording);
    cudaSetDevice(current);
  }
};

namespace {

std::shared_ptr<StreamState> state_of(const paddle::Tensor& on) {
  using Stream = std::pair<int, cudaStream_t>;
  static std::mutex mutex;
  // Kept until the process ends, as CUDA's own state is; Paddle's allocator may be gone by then.
  static auto& states = *new Recent<Stream, std::shared_ptr<StreamState>>(kMaxStreams);
  const int device = on.place().GetDeviceId();
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<StreamState>& state = states[{device, on.stream()}];
  if (state == nullptr) {
    state = std::make_shared<StreamState>();
    state->device = device;
  }
  return state;
}

}  // namespace

Turn::Turn(const paddle::Tensor& on) : on_(on), state_(state_of(on)), lock_(state_->mutex) {}

QwenVlContext* Turn::context() {
  if (state_->context == nullptr) {
    state_->products = bytes_on(on_, QWEN_VL_GEMM_WORKSPACE);
    check_status(qwen_vl_context_create(&state_->context, state_->products.data()), "cuBLASLt");
  }
  return state_->context;
}

void* Turn::workspace(size_t bytes) {
  paddle::Tensor& memory = state_->shared;
  if (!memory.initialized() || static_cast<size_t>(memory.numel()) < bytes) memory = bytes_on(on_, bytes);
  return memory.data();
}

void* Turn::private_workspace(size_t bytes, const std::string& op) {
  paddle::Tensor& memory = state_->own[{op, bytes}];
  if (!memory.initialized()) {
    memory = bytes_on(on_, bytes);
    check_status(cudaMemsetAsync(memory.data(), 0, bytes, on_.stream()), op.c_str());
  }
  return memory.data();
}

void Turn::run_or_replay(const std::string& key, const std::function<int(cudaStream_t)>& call, const char* op) {
  Recorded& recorded = state_->calls[key];
  if (recorded.graph != nullptr) return check_status(cudaGraphLaunch(recorded.graph.get(), on_.stream()), op);
  check_status(call(on_.stream()), op);  // the first time library handles and lazily loaded kernels settle
  if (++recorded.calls != 2) return;
  if (state_->recording == nullptr)
    check_status(cudaStreamCreateWithFlags(&state_->recording, cudaStreamNonBlocking), op);
  recorded.graph = record(state_->recording, call);
}

void* private_workspace(const paddle::Tensor& on, size_t bytes, const std::string& op) {
  return Turn(on).private_workspace(bytes, op);
}

void check_status(int status, const char* op) {
  if (status == QWEN_VL_OK) status = qwen_vl_gave_up();  // of kernels launched before
  PD_CHECK(status == QWEN_VL_OK, op, " failed: ", qwen_vl_status_text(status));
}

}  // namespace qwen_vl
#endif
