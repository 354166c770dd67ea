// Facts about devices, found once for each of them.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

namespace qwen {

// What `find` says about `subject` (a kernel, say) on the current device, asked once for each device and subject. What
// `find` sets there, such as a kernel's limit of shared memory, is thereby set on each device that the process uses.
template <typename Find> auto once_per_device(const void* subject, Find find) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, decltype(find())> answers;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) cudaGetLastError();  // what is launched next says so
  const std::lock_guard<std::mutex> lock(mutex);
  const auto known = answers.find({device, subject});
  return known != answers.end() ? known->second : answers[{device, subject}] = find();
}

}  // namespace qwen
