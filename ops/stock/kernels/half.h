// Half precision on the CPU, rounded to nearest even; Paddle's own host types cut the digits off.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace stock {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct CpuBfloat16 {
  uint16_t bits;

  explicit CpuBfloat16(float value) {
    const uint32_t all = bits_of(value);
    bits = value != value ? 0x7fc0 : (all + 0x7fff + (all >> 16 & 1)) >> 16;
  }
  explicit operator float() const { return float_of(static_cast<uint32_t>(bits) << 16); }
};

struct CpuFloat16 {
  uint16_t bits;

  explicit CpuFloat16(float value) {
    const uint32_t all = bits_of(value), magnitude = all & 0x7fffffff, sign = all >> 16 & 0x8000;
    constexpr uint32_t kTooLarge = 143u << 23, kLeastNormal = 113u << 23;  // 2^16 and 2^-14
    if (value != value) {
      bits = 0x7e00;
    } else if (magnitude >= kTooLarge) {
      bits = sign | 0x7c00;
    } else if (magnitude < kLeastNormal) {
      bits = sign | static_cast<uint32_t>(std::nearbyint(std::fabs(value) * 0x1p24f));
    } else {
      bits = sign | (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    }
  }
  explicit operator float() const {
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff,
                   sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    if (exponent == 0) return std::copysign(fraction * 0x1p-24f, sign ? -1.f : 1.f);
    return float_of(sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13);
  }
};

}  // namespace stock
