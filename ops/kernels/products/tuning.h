// What matrix products are tuned by: the counts of rows that they are timed with, and how; see gemm.h. No CUDA header.
#pragma once

#include <algorithm>
#include <iterator>

namespace qwen {

// Suggestions of cuBLASLt: each is timed once, then the fastest kFinalists in turns, kFinalRounds times by the median
// of kTimedRuns, as the clock moves and the luckiest of many is not the fastest.
constexpr int kCandidates = 48, kFinalists = 6, kFinalRounds = 2, kTimedRuns = 3;

// Of weights that are unpacked at once for cuBLASLt: bytes at most, less than L2 holds, and rows at least.
constexpr long long kUnpackedBytes = 32ll << 20, kUnpackedRows = 128;

constexpr long long kFewRows = 16, kEveryTile = 1024;
constexpr long long kManyRows[] = {1152, 1536, 2048};  // beyond kEveryTile; the last is the largest rung
// Of the products' tiles (cuBLASLt's are powers of two); the first counts up to the last only.
constexpr long long kRowsOfTiles[] = {64, 144, 160, 192, 256};

// At least `rows`, unless they are more than the largest: with so many tiles the last ones count for little.
// (docs/lab/waits.md: 1144 rows with the choice of 1024.)
inline long long gemm_rung(long long rows) {
  const auto up = [&](long long step) { return (rows + step - 1) / step * step; };
  if (rows > kEveryTile) {
    for (const long long rung : kManyRows)
      if (rows <= rung) return rung;
    return std::end(kManyRows)[-1];
  }
  if (rows <= 2 * kFewRows) return std::max(up(kFewRows), kFewRows);  // one tile, read from memory all the same
  const long long widest = std::end(kRowsOfTiles)[-1];
  long long rung = up(widest);
  for (const long long tile : kRowsOfTiles)
    if (tile > kRowsOfTiles[0] || rows <= widest) rung = std::min(rung, up(tile));
  return rung;
}

}  // namespace qwen
