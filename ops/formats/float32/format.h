#pragma once

namespace qwen {
struct Float32 : Format<kFloat32, false, 32, true> {
  static constexpr std::string_view kName = "float32";
};
}  // namespace qwen
QWEN_VL_FORMAT(Float32)
