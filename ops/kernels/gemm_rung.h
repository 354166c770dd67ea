// The counts of rows that matrix products are timed with; see gemm.h. No CUDA header.
#pragma once

#include <algorithm>

namespace qwen {

constexpr long long kLargestRung = 1024, kFewRows = 16;
constexpr long long kTileRows[] = {64, 144, 256};  // of the products' tiles; cuBLASLt's are powers of two

// At least `rows`, unless they are more than the largest: then it is the rung of the equal parts that they make.
inline long long gemm_rung(long long rows) {
    const auto up = [&](long long step) { return (rows + step - 1) / step * step; };
    if (rows > kLargestRung) {
        const long long parts = (rows + kLargestRung - 1) / kLargestRung;
        rows = (rows + parts - 1) / parts;
    }
    if (rows <= 2 * kFewRows) return std::max(up(kFewRows), kFewRows);  // one tile, read from memory all the same
    return std::min(up(rows <= kTileRows[2] ? kTileRows[0] : kTileRows[2]), up(kTileRows[1]));
}

}  // namespace qwen
