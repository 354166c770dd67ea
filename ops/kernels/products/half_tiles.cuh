// The tile shapes of products with weights that are 16-bit numbers as they are. Each fills 132 processors once or twice
// at some shapes of the published 7B model; which one is the fastest is timed.
#pragma once

#include "ops/kernels/products/tile.cuh"

namespace qwen {

template <typename T> struct HalfTiles {
  using Wide = GemmShape<2, 256, 4, 128, Common::kTokens, true>;  // 128 x 256
  using Prompt = GemmShape<3, 144, 5, 144, Common::kWeights, false>;  // 192 x 144
  using Half = GemmShape<2, 144, 6, 72, Common::kDepth, true>;  // 128 x 144, half of the depth a block
  static constexpr int kFewestTokens = 64;  // below, a tile would be mostly empty

  template <class Launch> static bool choose(const QwenVlGemm& g, int shape, Launch launch) {
    if (g.float_output || g.tokens < kFewestTokens) return false;
    if (g.activation == kGelu) return shape == 0 && launch(Tile<T, Wide, kGelu>{});
    if (g.activation == kSiluMul) return shape == 1 && launch(Tile<T, Prompt, kSiluMul>{});
    if (shape == 0) return launch(Tile<T, Wide, kNoActivation>{});
    return shape == 2 && launch(Tile<T, Half, kNoActivation>{});
  }
};

}  // namespace qwen
