// A tile of the matrix product for sm_90a: how much it is of the result, and what the kernel holds for it. Which ones
// there are is said by the format of the weights (Tiles of ops/formats/format.h):
//   template <class Launch> static bool choose(const QwenVlGemm& g, int shape, Launch launch);
// returns launch(Tile<…>{}) for the product's tile shape of this number, false if it has none.
#pragma once

#include "ops/kernels/common/arguments.h"
#include "ops/kernels/products/gemm.h"

namespace qwen {

// What a packed format says of the granules in which it keeps its weights: columns of one, bytes of one row of it, rows
// whose granules stand together; the object is a thread's share of a row's granule, loaded from the Place of its row
// and of lane % 4, `pair(n)` two numbers of it as wgmma takes them, kUnscale what the sums are multiplied by, or with
// kRowScales the scale of each row (ops/formats/row_scaled.h).
struct NotPacked {
  static constexpr int kColumns = 64, kRowBytes = 128, kRows = 1;
  static constexpr float kUnscale = 1;
  static constexpr bool kRowScales = false;
  struct Place {
    __device__ Place(int row, int quad) {}
  };
  __device__ void load(const char* granule, Place place) {}
  __device__ uint32_t pair(int n) const { return 0; }
};

// Blocks run in clusters of two. What the pair has in common: the tile's weights (each block takes other tokens) or its
// tokens (each takes other weights), of which each block then fetches half for both; or the tile itself, of which each
// block takes half of the depth.
enum class Common { kWeights, kTokens, kDepth };

// A tile is 64 rows of the weights for each of its GROUPS of 128 threads, by N tokens.
// DEDICATED: the epilogue has memory of its own; else it uses the stages', and the next tile's fetches wait for it.
// CHUNK: tokens that the epilogue writes at once.
// PACKING, GRANULES: of packed weights, which have a ring of their own with so many stages of one granule's columns.
template <int GROUPS, int N, int STAGES, int CHUNK, Common COMMON, bool DEDICATED, class PACKING = NotPacked,
          int GRANULES = 0>
struct GemmShape {
  using Packing = PACKING;
  static constexpr int kGroups = GROUPS, kN = N, kStages = STAGES, kChunk = CHUNK, kGranules = GRANULES;
  static constexpr Common kCommon = COMMON;
  static constexpr bool kDedicated = DEDICATED, kSplit = COMMON == Common::kDepth, kPacked = GRANULES > 0;
  // Which stages each block of the pair fills half of, and gives back to both.
  static constexpr bool kSharesWeights = COMMON == Common::kWeights, kSharesTokens = COMMON == Common::kTokens;
  static constexpr bool kSharesStages = kSharesTokens || (kSharesWeights && !kPacked);
  static constexpr int kM = 64 * GROUPS;
  static constexpr int kRowBytes = kPacked ? Packing::kRowBytes : 128;
  static constexpr int kRowsTogether = kPacked ? Packing::kRows : 1;  // in the weights' map
  static constexpr int kWeightRows = kSharesWeights ? kM / 2 : kM;  // rows of one fetch
  static constexpr int kFetchBytes = (kWeightRows * kRowBytes + 127) / 128 * 128;  // where such fetches go
  static constexpr int kWeightBytes = kM / kWeightRows * kFetchBytes;
  static constexpr int kTokensAt = kPacked ? 0 : kWeightBytes, kStageBytes = kTokensAt + N * 128;
  static constexpr int kPanelBytes = CHUNK * 128;
  static constexpr int kTokenRows = kSharesTokens ? N / 2 : N;
  static constexpr int kColumns = kSplit ? N / 2 : N;  // tokens that this block writes
  static constexpr int kSteps = kPacked ? Packing::kColumns / 64 : 1;  // that belong together
  static constexpr int kExchanged = kSplit ? GROUPS * 64 * kColumns * 4 : 0;  // bytes of sums for the other block
  static constexpr int kPanels = DEDICATED ? STAGES * kStageBytes : kExchanged;
  static constexpr int kGranulesAt = STAGES * kStageBytes + (DEDICATED ? GROUPS * kPanelBytes : 0);
  static constexpr int kBarriers = kGranulesAt + GRANULES * kWeightBytes;
  static constexpr int kBytes =
      kBarriers + (2 * STAGES + 3 * GRANULES + GROUPS) * 8 + 1024;  // and what aligns the start
  static constexpr int kThreads = 128 * (GROUPS + 1);
  static_assert(kColumns % CHUNK == 0 && CHUNK % 8 == 0 && kBytes <= 232448, "tile does not fit");
  static_assert(kExchanged + (DEDICATED ? 0 : GROUPS * kPanelBytes) <= STAGES * kStageBytes, "epilogue does not fit");
};

// Y: float where the result is.
template <typename T, typename S, int ACTIVATION, typename Y = T> struct Tile {};

}  // namespace qwen
