// Scratch memory of one operator call, 64-byte aligned and uninitialised.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace qwen_vl::cpu {

struct FreeBuffer {
  void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], FreeBuffer>;

inline Buffer make_buffer(int64_t values) {
  void* p = std::aligned_alloc(64, (values * sizeof(float) + 63) / 64 * 64);
  if (p == nullptr) throw std::bad_alloc();
  return Buffer(static_cast<float*>(p));
}

}  // namespace qwen_vl::cpu
