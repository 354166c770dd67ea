#ifdef PADDLE_WITH_CUDA
#include "ops/paddle/launch.h"

#include <map>

#include "ops/kernels/status.h"

namespace qwen_vl {

QwenVlContext* context(const paddle::Tensor& tensor) {
  thread_local std::map<int, QwenVlContext*> contexts;  // kept until the process ends, as CUDA's own state is
  QwenVlContext*& context = contexts[tensor.place().GetDeviceId()];
  if (context == nullptr) check_status(qwen_vl_context_create(&context), "cuBLASLt");
  return context;
}

void check_status(int status, const char* op) {
  PD_CHECK(status == QWEN_VL_OK, op, " failed: ", qwen_vl_status_text(status));
}

}  // namespace qwen_vl
#endif
