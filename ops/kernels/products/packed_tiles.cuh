// Which tile a product with packed weights takes, by the number of its shape: the same for all packed formats, each of
// which has shapes of its own behind the names (Tiles of ops/formats/format.h).
#pragma once

#include <cuda_fp16.h>

#include "ops/kernels/products/tile.cuh"

namespace qwen {

// Base of SHAPES, which names the GemmShapes. Products with SiLU or float results need fewer of them.
template <class SHAPES> struct PackedTiles {
  template <class Launch> static bool choose(const QwenVlGemm& g, int shape, Launch launch) {
    using T = __half;
    if (g.activation == kGelu || (g.float_output && (g.addend || g.activation != kNoActivation))) return false;
    if (g.float_output) return shape == 2 && launch(Tile<T, typename SHAPES::Few, kNoActivation, float>{});
    if (g.activation == kSiluMul) {
      if (shape == 0) return launch(Tile<T, typename SHAPES::Prompt, kSiluMul>{});
      if (shape == 2) return launch(Tile<T, typename SHAPES::Few, kSiluMul>{});
      if (shape == 5) return launch(Tile<T, typename SHAPES::Prompt160, kSiluMul>{});
      if (shape == 6) return launch(Tile<T, typename SHAPES::Prompt192, kSiluMul>{});
      return shape == 4 && launch(Tile<T, typename SHAPES::Wide, kSiluMul>{});
    }
    if (shape == 0) return launch(Tile<T, typename SHAPES::Prompt, kNoActivation>{});
    if (shape == 1) return launch(Tile<T, typename SHAPES::Half, kNoActivation>{});
    if (shape == 2) return launch(Tile<T, typename SHAPES::Few, kNoActivation>{});
    if (shape == 3) return launch(Tile<T, typename SHAPES::FewHalf, kNoActivation>{});
    if (shape == 5) return launch(Tile<T, typename SHAPES::Prompt160, kNoActivation>{});
    if (shape == 6) return launch(Tile<T, typename SHAPES::Prompt192, kNoActivation>{});
    if (shape == 7) return launch(Tile<T, typename SHAPES::Half160, kNoActivation>{});
    if (shape == 8) return launch(Tile<T, typename SHAPES::Half192, kNoActivation>{});
    return shape == 4 && launch(Tile<T, typename SHAPES::Wide, kNoActivation>{});
  }
};

}  // namespace qwen
