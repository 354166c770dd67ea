// Tile shapes of the attention kernels; docs/lab/prefill.md has what they were chosen among. No CUDA header.
#pragma once

namespace qwen {

// Before sm_90a: 16 queries a warp, keys and values by turns.
struct FlashTile {
  static constexpr int kWarps = 4, kQueries = 16 * kWarps, kKeys = 64;
};

// A prompt's, sm_90a: one warpgroup; short rows waste less in small tiles.
struct CausalTile {
  static constexpr int kQueries = 64, kKeys = 64, kThreads = 128;
};

// The encoder's, sm_90a: two warpgroups of 64 queries and one that fetches, keys and values in three stages. Tiles of
// 64 keys and two stages are slower.
struct FullTile {
  static constexpr int kQueries = 128, kKeys = 128, kStages = 3, kThreads = 3 * 128;
  static constexpr int kFetchRegisters = 24, kComputeRegisters = 240;  // of a thread
};

}  // namespace qwen
