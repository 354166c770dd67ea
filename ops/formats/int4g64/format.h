// Whole numbers of 4 bits, a scale and a zero point for 64 columns; the places: ops/formats/int4/groups.h.
// What the fields are: ops/formats/format.h.
#pragma once
#include "ops/formats/int4/groups.h"
#include "ops/formats/int4/lanes.h"

namespace qwen {
struct Int4G64 : Int4Format<64, true> {
  static constexpr std::string_view kName = "int4g64";
};
}  // namespace qwen
QWEN_VL_FORMAT(Int4G64)
