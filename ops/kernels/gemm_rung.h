// The counts of rows that matrix products are timed with; see gemm.h. No CUDA header.
#pragma once

#include <algorithm>

namespace qwen {

constexpr long long kLargestRung = 1024, kFewRows = 16;
constexpr long long kTileRows[] = {64, 144, 256};  // of the products' tiles; cuBLASLt's are powers of two

// At least `rows`, unless they are more than the largest: with so many tiles the last ones count for little.
inline long long gemm_rung(long long rows) {
    const auto up = [&](long long step) { return (rows + step - 1) / step * step; };
    rows = std::min(rows, kLargestRung);
    if (rows <= 2 * kFewRows) return std::max(up(kFewRows), kFewRows);  // one tile, read from memory all the same
    return std::min(up(rows <= kTileRows[2] ? kTileRows[0] : kTileRows[2]), up(kTileRows[1]));
}

}  // namespace qwen
