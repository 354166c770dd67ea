// Calls of the CUDA launchers: stream, workspace and context come from here, failures become exceptions.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "ops/kernels/common/context.h"
#include "paddle/extension.h"

namespace qwen_vl {

#ifdef PADDLE_WITH_CUDA
// What the calls on one stream of one device share, whichever threads they come from: memory, which is used in the
// stream's order, and recorded calls. Threads own nothing of it, so they may come and go.
struct StreamState;

// A call's turn on the stream of `on`: no other call is launched there meanwhile.
class Turn {
 public:
  explicit Turn(const paddle::Tensor& on);

  QwenVlContext* context();

  // At least `bytes` of device memory, the same for all calls.
  void* workspace(size_t bytes);

  // Device memory for calls of this name and size alone, zero before its first use; it stays where it is.
  void* private_workspace(size_t bytes, const std::string& op);

  // Launches `call`, which takes the stream; the second time that `key` is seen it is recorded into a CUDA graph as
  // well, on a stream of its own beside the device's work, and from then on the graph is replayed: a call of hundreds of
  // kernels costs one launch. `key` holds everything that the call depends on.
  void run_or_replay(const std::string& key, const std::function<int(cudaStream_t)>& call, const char* op);

 private:
  const paddle::Tensor& on_;
  std::shared_ptr<StreamState> state_;
  std::unique_lock<std::mutex> lock_;
};

// Turn::private_workspace for a call that is one launch, or several of which each leaves the memory ready for any
// other.
void* private_workspace(const paddle::Tensor& on, size_t bytes, const std::string& op);

// Throws unless `status` is success.
void check_status(int status, const char* op);

// Runs `launcher` on Paddle's stream of the device of `on`, with the workspace that it asks for.
template <typename Arguments>
void launch(const char* op, const paddle::Tensor& on, const Arguments& arguments,
            size_t (*workspace_bytes)(const Arguments*),
            int (*launcher)(QwenVlContext*, const Arguments*, void*, size_t, cudaStream_t)) {
  const size_t bytes = workspace_bytes(&arguments);
  Turn turn(on);
  void* const memory = turn.workspace(bytes);
  std::string key(op);
  key.append(reinterpret_cast<const char*>(&arguments), sizeof arguments);
  key.append(reinterpret_cast<const char*>(&memory), sizeof memory);
  QwenVlContext* const context = turn.context();
  turn.run_or_replay(
      key, [&](cudaStream_t stream) { return launcher(context, &arguments, memory, bytes, stream); }, op);
}
#endif

}  // namespace qwen_vl

// `QWEN_VL_LAUNCH(op, tensor, arguments, function)`: function's workspace size is function_workspace's.
// QWEN_VL_LAUNCH_PLAIN: function takes neither workspace nor context.
#ifdef PADDLE_WITH_CUDA
#define QWEN_VL_LAUNCH(op, on, arguments, function) ::qwen_vl::launch(op, on, arguments, function##_workspace, function)
#define QWEN_VL_LAUNCH_PLAIN(op, on, arguments, function) \
  ::qwen_vl::check_status(function(&arguments, (on).stream()), op)
#else
#define QWEN_VL_LAUNCH_PLAIN QWEN_VL_LAUNCH
#define QWEN_VL_LAUNCH(op, on, arguments, function) \
  do { \
    static_cast<void>(arguments); \
    PD_THROW(op, " was built for the CPU only: run `make ops DEVICE=gpu`"); \
  } while (false)
#endif
