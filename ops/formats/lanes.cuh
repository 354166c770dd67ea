// How the CUDA kernels take matrices that are laid out by lanes (lanes.h): for the decode step, the products of many
// rows, and unpacking.
//
// All three go through the format's Packing (products/tile.cuh), a thread's share of a row of a tile. To what that file
// asks for it adds
//   clear()         makes it all zeros;
//   kFinite         whether its numbers are finite whatever its bits are, once
//   clear_missing() is called for columns that no row has;
//   number_pair(n)  pair n as two float16 numbers before they are scaled;
//   kGroup          columns that share a scale, which `scale(column)` gives for a column of the tile; 0: rows have them
//                   (kRowScales).
#pragma once

#include "ops/formats/lanes.h"
#include "ops/kernels/common/mma.cuh"
#include "ops/kernels/decode/weights.cuh"
#include "ops/kernels/products/packed_tiles.cuh"

namespace qwen {

// The bits of a word's bytes or of 64646464, as __byte_perm.
__host__ __device__ __forceinline__ uint32_t choose_bytes(uint32_t word, uint32_t other, uint32_t selector) {
#ifdef __CUDA_ARCH__
  return __byte_perm(word, other, selector);
#else
  uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t from = selector >> 4 * i & 7;
    chosen |= ((from < 4 ? word : other) >> from % 4 * 8 & 0xff) << 8 * i;
  }
  return chosen;
#endif
}

__host__ __device__ __forceinline__ __half2 half_pair(uint32_t bits) {
  __half2 pair;
  memcpy(&pair, &bits, sizeof pair);
  return pair;
}
__host__ __device__ __forceinline__ uint32_t pair_bits(__half2 pair) {
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// A stage of the decode kernel has PIECES times kChunk columns. Where that is more, a stage costs less work around it.
template <class Packing, int PIECES>
struct LaneDecodeShare : NaturalOrder {
  static constexpr float kUnscale = 1;
  static constexpr int kRowBytes = Packing::kRowBytes, kPieces = PIECES;
  static constexpr bool kRowScales = Packing::kRowScales;
  static constexpr int kGroupSteps = Packing::kGroup / 32;
  static constexpr bool kFinite = Packing::kFinite;
  static_assert(kWarpColumns == kLaneColumns, "a warp takes one tile of a chunk");
  Packing pieces[PIECES];

  __device__ void clear() {
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) pieces[piece].clear();
  }

  __device__ void take(const char* from, int warp, int lane, int count) {
    const typename Packing::Place place(lane / 4, lane % 4);
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) {
      const int tile = piece * kWarps + warp;
      const bool there = tile * kLaneColumns < count;
      if (kFinite || there) pieces[piece].load(from + tile * Packing::kRowBytes * kLaneRows, place);
      if (!there) pieces[piece].clear_missing();
    }
  }

  __device__ uint4 step(int s) const {
    const Packing& piece = pieces[s / kSteps];
    const int n = s % kSteps * 4;
    return make_uint4(piece.number_pair(n), piece.number_pair(n + 1), piece.number_pair(n + 2),
                      piece.number_pair(n + 3));
  }

  // Of the columns of step(s).
  __device__ float scale(int s) const { return pieces[s / kSteps].scale(s % kSteps * 32); }
};

// The tile shapes of products of many rows: with short granules, of which more are on their way.
template <class Packing>
struct LaneTiles : PackedTiles<LaneTiles<Packing>> {
  using Prompt = GemmShape<3, 144, 6, 144, Common::kWeights, false, Packing, 4>;
  using Half = GemmShape<2, 144, 7, 72, Common::kDepth, true, Packing, 4>;
  using Prompt160 = GemmShape<3, 160, 5, 160, Common::kWeights, false, Packing, 4>;
  using Prompt192 = GemmShape<3, 192, 5, 192, Common::kWeights, false, Packing, 4>;
  using Half160 = GemmShape<2, 160, 6, 80, Common::kDepth, true, Packing, 4>;
  using Half192 = GemmShape<2, 192, 5, 96, Common::kDepth, true, Packing, 4>;
  using Few = GemmShape<3, 64, 5, 64, Common::kTokens, true, Packing, 5>;
  using FewHalf = GemmShape<1, 64, 8, 32, Common::kDepth, true, Packing, 12>;
  using Wide = GemmShape<2, 256, 4, 64, Common::kTokens, true, Packing, 4>;
};

}  // namespace qwen
