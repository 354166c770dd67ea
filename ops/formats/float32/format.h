// Single precision as it is, for the CPU operators. What the fields are: ops/formats/format.h.
#pragma once

namespace qwen {
struct Float32 : Format<kFloat32, false, 32, true> {
  static constexpr std::string_view kName = "float32";
};
}  // namespace qwen
QWEN_VL_FORMAT(Float32)
