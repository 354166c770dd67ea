// What the host side of the launchers shares: type codes, workspace slicing, status propagation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwen {

constexpr int kFloat16 = 0, kBfloat16 = 1, kFloat32 = 2;  // the `dtype` of every launcher; kFloat32 on the CPU alone
constexpr int kNoActivation = 0, kGelu = 1, kSiluMul = 2;  // the `activation` of a matrix product

// Where so many values of two bytes further on stand.
inline const char* element(const void* base, long long values) { return static_cast<const char*>(base) + values * 2; }
inline char* element(void* base, long long values) { return static_cast<char*>(base) + values * 2; }

// Hands out 256-byte aligned slices of a workspace; over a null base it only counts.
class Slices {
 public:
  explicit Slices(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T = void> T* take(size_t bytes) {
    const size_t offset = used_;
    used_ += (bytes + 255) / 256 * 256;
    return base_ ? reinterpret_cast<T*>(base_ + offset) : nullptr;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace qwen

// Returns from the function with the status of `call` unless it is success.
#define QWEN_VL_TRY(call) \
  do { \
    const int status_ = (call); \
    if (status_ != 0) return status_; \
  } while (0)
