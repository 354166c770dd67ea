// Whole numbers of 4 bits, a scale for 128 columns; the places: ops/formats/int4/groups.h.
// What the fields are: ops/formats/format.h.
#pragma once
#include "ops/formats/int4/groups.h"
#include "ops/formats/int4/lanes.h"

namespace qwen {
struct Int4 : Int4Format<128, false> {
  static constexpr std::string_view kName = "int4";
};
}  // namespace qwen
QWEN_VL_FORMAT(Int4)
