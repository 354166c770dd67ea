// When an OpenMP region is worth its threads; exceptions inside one, which none may leave: it would end the process.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>

namespace qwen_vl::cpu {

// Below so many values a loop over them is done sooner than other threads have begun.
constexpr int64_t kParallelValues = 1 << 14;

// Carries the first exception of a region's threads out of it. Every thread runs its part through `guard`; after the
// region `rethrow` throws what one of them caught.
class Carrier {
 public:
  template <typename Part>
  void guard(Part part) noexcept {
    try {
      part();
    } catch (...) {
      if (!taken_.exchange(true)) caught_ = std::current_exception();
    }
  }

  void rethrow() const {
    if (caught_) std::rethrow_exception(caught_);
  }

 private:
  std::atomic<bool> taken_{false};
  std::exception_ptr caught_;
};

}  // namespace qwen_vl::cpu
