// The tile shapes of products with weights in E5M7: narrow ones in three widths, so that two tiles fit most prompts; two
// for few tokens, where only the way of the weights counts; and a wide one. Each fills 132 processors once or twice at
// some shapes of the published 7B model.
#pragma once

#include "ops/formats/e5m7/bits.cuh"
#include "ops/kernels/products/packed_tiles.cuh"

namespace qwen {

struct E5m7Tiles : PackedTiles<E5m7Tiles> {
  using Prompt = GemmShape<3, 144, 6, 144, Common::kWeights, false, E5m7Share, 3>;
  using Half = GemmShape<2, 144, 7, 72, Common::kDepth, true, E5m7Share, 3>;
  using Prompt160 = GemmShape<3, 160, 5, 160, Common::kWeights, false, E5m7Share, 3>;
  using Prompt192 = GemmShape<3, 192, 4, 192, Common::kWeights, false, E5m7Share, 3>;
  using Half160 = GemmShape<2, 160, 6, 80, Common::kDepth, true, E5m7Share, 3>;
  using Half192 = GemmShape<2, 192, 5, 96, Common::kDepth, true, E5m7Share, 3>;
  using Few = GemmShape<3, 64, 5, 64, Common::kTokens, true, E5m7Share, 4>;  // 192 x 64
  using FewHalf = GemmShape<1, 64, 8, 32, Common::kDepth, true, E5m7Share, 10>;  // 64 x 64, half of the depth each
  using Wide = GemmShape<2, 256, 4, 64, Common::kTokens, true, E5m7Share, 3>;  // 128 x 256
};

}  // namespace qwen
