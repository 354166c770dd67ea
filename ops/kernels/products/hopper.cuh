// The matrix product with warpgroup matrix instructions (sm_90a): the kernel for one tile shape.
#pragma once

#include "ops/formats/row_scaled.h"
#include "ops/kernels/common/activations.cuh"
#include "ops/kernels/common/cluster.cuh"
#include "ops/kernels/common/tensor_map.cuh"
#include "ops/kernels/common/wgmma_shared.cuh"
#include "ops/kernels/products/tile.cuh"

#if CUDART_VERSION >= 12000
namespace qwen {

struct GemmSize {
  int out, steps;              // rows of the weights, 64-wide steps over the depth
  int tiles_m, tiles_n, units; // units of work: one for each pair of blocks
  int tokens;
};

// Y: float where y is written without a panel; there is then no addend.
template <typename T, typename S, int ACTIVATION, typename Y>
__global__ void __launch_bounds__(QWEN_VL_HAS_WGMMA ? S::kThreads : 1, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap weight_map, const __grid_constant__ CUtensorMap x_map,
                const __grid_constant__ CUtensorMap addend_map, const __grid_constant__ CUtensorMap y_map,
                const T* bias, bool adds, Y* y, const GemmSize size, const void* matrix, volatile uint64_t* words) {
#if QWEN_VL_HAS_WGMMA
  constexpr bool kSilu = ACTIVATION == kSiluMul, kGate = ACTIVATION == kGelu;
  constexpr bool kFloat = std::is_same<Y, float>::value;
  using Packing = typename S::Packing;
  using Granules = RingPlace<S::kPacked ? S::kGranules : 1>;
  extern __shared__ unsigned char unaligned[];
  const uint32_t memory = (shared_address(unaligned) + 1023) / 1024 * 1024;
  const uint32_t full = memory + S::kBarriers, empty = full + S::kStages * 8, added = empty + S::kStages * 8;
  const uint32_t packed = memory + S::kGranulesAt, packed_full = added + S::kGroups * 8;
  const uint32_t packed_empty = packed_full + S::kGranules * 8, peer_ready = packed_empty + S::kGranules * 8;
  const int rank = static_cast<int>(cluster_rank()), clusters = gridDim.x / 2, first = blockIdx.x / 2;
  const int half = (size.steps + 2 * S::kSteps - 1) / (2 * S::kSteps) * S::kSteps;
  const int start = S::kSplit && rank ? half : 0;
  const int steps = !S::kSplit ? size.steps : rank ? size.steps - half : half;

  auto place = [&](int unit, int& m, int& n) {
    if (S::kCommon == Common::kWeights) {
      const int pairs = (size.tiles_n + 1) / 2;
      m = unit / pairs;
      n = unit % pairs * 2 + rank;
    } else {
      m = unit / size.tiles_n * (S::kSplit ? 1 : 2) + (S::kSplit ? 0 : rank);
      n = unit % size.tiles_n;
    }
  };
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, S::kGroups * (S::kSharesStages ? 2 : 1));
    }
    for (int i = 0; i < S::kGranules; ++i) {
      barrier_init(packed_full + i * 8, 1);
      barrier_init(packed_empty + i * 8, S::kGroups * 4);  // warps
      barrier_init(peer_ready + i * 8, 1);
    }
    for (int i = 0; i < S::kGroups; ++i) barrier_init(added + i * 8, 1);
    barrier_init_fence();
  }
  cluster_sync();

  if (threadIdx.x < 128) {
    registers_release<S::kGroups == 3 ? 32 : 40>();
    if (threadIdx.x == 0) {
      RingPlace<S::kStages> ring(0);
      Granules granule(0);
      auto fetch_weights = [&](uint32_t to, uint32_t barrier, int column, int m) {
        if constexpr (S::kSharesWeights) {
          const int part = rank * S::kWeightRows;
          to += rank * S::kFetchBytes;
          if constexpr (kSilu) fetch_box(to, weight_map, barrier, column, 0, 0, (m * S::kM + part) / 16, uint16_t(3));
          else fetch_box(to, weight_map, barrier, column, (m * S::kM + part) / S::kRowsTogether, uint16_t(3));
        } else if constexpr (kSilu) {
          fetch_box(to, weight_map, barrier, column, 0, 0, m * S::kM / 16);
        } else {
          fetch_box(to, weight_map, barrier, column, m * S::kM / S::kRowsTogether);
        }
      };
      auto fetch_tokens = [&](uint32_t to, uint32_t barrier, int column, int n) {
        if constexpr (S::kSharesTokens) {
          const int part = rank * S::kTokenRows;
          fetch_box(to + part * 128, x_map, barrier, column, n * S::kN + part, uint16_t(3));
        } else {
          fetch_box(to, x_map, barrier, column, n * S::kN);
        }
      };
      const bool loses = test_loses(words);
      for (int unit = first; unit < size.units; unit += clusters) {
        int m, n;
        place(unit, m, n);
#pragma unroll 4  // left alone the compiler does so for some tiles only
        for (int step = start; step < start + steps; ++step, ring.advance()) {
          const uint32_t stage_memory = memory + ring.stage * S::kStageBytes;
          if (S::kPacked && step % S::kSteps == 0) {
            barrier_wait_or_end(packed_empty + granule.stage * 8, granule.parity ^ 1);
            if (S::kSharesWeights) {  // both blocks' memory is written to
              barrier_arrive_at(cluster_address(peer_ready, rank ^ 1) + granule.stage * 8);
              barrier_wait_or_end(peer_ready + granule.stage * 8, granule.parity);
            }
            const uint32_t barrier = packed_full + granule.stage * 8;
            barrier_expect(barrier, S::kM * S::kRowBytes);
            fetch_weights(packed + granule.stage * S::kWeightBytes, barrier,
                          step / S::kSteps * (S::kRowBytes * S::kRowsTogether / 8), m);
            granule.advance();
          }
          barrier_wait_or_end(empty + ring.stage * 8, ring.parity ^ 1);
          const uint32_t barrier = full + ring.stage * 8;
          barrier_expect(barrier, S::kStageBytes);
          if (!S::kPacked) fetch_weights(stage_memory, barrier, step * 64, m);
          if (!loses) fetch_tokens(stage_memory + S::kTokensAt, barrier, step * 64, n);
        }
      }
    }
    if (S::kSplit) cluster_sync();
  } else {
    registers_take<S::kGroups == 3 ? 160 : 232>();
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const bool leader = threadIdx.x % 128 == 0;
    const uint32_t panel = memory + S::kPanels + group * S::kPanelBytes, arrived = added + group * 8;
    const uint32_t peer_empty = cluster_address(empty, rank ^ 1);
    int turn = 0, added_parity = 0;
    CountedWaits waits;
    auto release = [&](int stage) {
      if (!leader) return;
      barrier_arrive(empty + stage * 8);
      if (S::kSharesStages) barrier_arrive_at(peer_empty + stage * 8);
    };
    // A thread reads its share of the rows lane / 4 and lane / 4 + 8 of its warp's 16. The loads wait behind matrix
    // instructions that the warp has issued: an arrival here stays behind them, one at the peer would not.
    const int packed_row = group * 64 + warp * 16 + lane / 4;
    constexpr int kGap = S::kFetchBytes - S::kWeightRows * S::kRowBytes;  // between two fetches
    const char* const packed_rows = reinterpret_cast<const char*>(unaligned) + (packed - shared_address(unaligned)) +
                                    packed_row * Packing::kRowBytes + packed_row / S::kWeightRows * kGap;
    const typename Packing::Place packed_place(packed_row, lane % 4);
    Granules granule(0);
    Packing shares[2];
    auto load_granule = [&] {
      const char* packed = packed_rows + granule.stage * S::kWeightBytes;
      waits.wait(packed_full + granule.stage * 8, granule.parity);
#pragma unroll
      for (int i = 0; i < 2; ++i, packed += 8 * Packing::kRowBytes) shares[i].load(packed, packed_place);
      __syncwarp();
      if (lane == 0) barrier_arrive(packed_empty + granule.stage * 8);
      granule.advance();
    };
    for (int unit = first; unit < size.units; unit += clusters) {
      int m, n;
      place(unit, m, n);
      const int first_row = (m * S::kGroups + group) * 64;
      const int first_token = n * S::kN + (S::kSplit ? rank * S::kColumns : 0);
      auto fetch_addend = [&](int chunk) {
        if (!leader) return;
        store_wait();
        if (waits.over()) return;
        barrier_expect(arrived, S::kPanelBytes);
        fetch_box(panel, addend_map, arrived, first_row, first_token + chunk * S::kChunk);
      };
      if (S::kDedicated && adds) fetch_addend(0);

      float sum[S::kN / 8][4] = {};  // [j]: of tokens 8j .. 8j + 7
      RingPlace<S::kStages> ring(turn);
      int previous = 0;
      if constexpr (S::kPacked) load_granule();
      for (int step = 0; step < steps; step += S::kSteps) {
        uint32_t numbers[S::kSteps][4][4];
#pragma unroll
        for (int i = 0; i < S::kSteps; ++i, ring.advance()) {
          const bool next_granule = S::kPacked && i == S::kSteps - 1 && step + S::kSteps < steps;
          const uint32_t stage_memory = memory + ring.stage * S::kStageBytes;
          const uint64_t weights = tile_descriptor(stage_memory + group * 8192, 16);
          const uint64_t tokens = tile_descriptor(stage_memory + S::kTokensAt, 16);
          if constexpr (S::kPacked) {  // beside the products of the step before
#pragma unroll
            for (int j = 0; j < 16; ++j) numbers[i][j / 4][j % 4] = shares[j % 2].pair(i * 8 + j / 4 * 2 + j % 4 / 2);
            wgmma_settle(numbers[i]);
          }
          waits.wait(full + ring.stage * 8, ring.parity);
          wgmma_begin();
#pragma unroll
          for (int part = 0; part < 4; ++part) {
            if constexpr (S::kPacked)
              wgmma<T, S::kN, false>(sum, numbers[i][part], tokens + part * 2, step + i + part > 0);
            else wgmma_shared<T, S::kN>(sum, weights + part * 2, tokens + part * 2, step + part > 0);
          }
          wgmma_commit();
          if (next_granule) load_granule();
          wgmma_wait<1>();
          if (step + i > 0 && (S::kDedicated || step + i <= steps - S::kStages)) release(previous);
          previous = ring.stage;
        }
      }
      turn += steps;
      wgmma_wait<0>();
      wgmma_settle(sum);
      if (S::kDedicated) release(previous);
      if (!S::kDedicated || S::kSplit) named_sync(15, 128 * S::kGroups);

      if constexpr (S::kSplit) {  // each block of the pair adds up half of the tokens
        constexpr int kHalf = S::kN / 16;
        const uint32_t mine = memory + group * kHalf * 2048 + threadIdx.x % 128 * 16;
#pragma unroll
        for (int j = 0; j < kHalf; ++j) {
          float (&other)[4] = sum[j + kHalf], (&own)[4] = sum[j];
          shared_store(mine + j * 2048, make_float4(rank ? own[0] : other[0], rank ? own[1] : other[1],
                                                    rank ? own[2] : other[2], rank ? own[3] : other[3]));
#pragma unroll
          for (int i = 0; i < 4; ++i) own[i] = rank ? other[i] : own[i];
        }
        cluster_sync();
        const uint32_t theirs = cluster_address(mine, rank ^ 1);
#pragma unroll
        for (int j = 0; j < kHalf; ++j) {
          const float4 more = cluster_load(theirs + j * 2048);
          sum[j][0] += more.x;
          sum[j][1] += more.y;
          sum[j][2] += more.z;
          sum[j][3] += more.w;
        }
      }

      const int row = first_row + warp * 16 + lane / 4;
      if constexpr (S::kPacked) {
        float of_low = Packing::kUnscale, of_high = Packing::kUnscale;
        if constexpr (Packing::kRowScales) {
          const int gate = (first_row + warp * 16) / 2 + lane / 4;
          const int rows[2] = {kSilu ? gate : row, kSilu ? gate + size.out / 2 : row + 8};
          of_low = rows[0] < size.out ? __ldg(row_scale(matrix, rows[0], size.steps * 64)) : 0;
          of_high = rows[1] < size.out ? __ldg(row_scale(matrix, rows[1], size.steps * 64)) : 0;
        }
#pragma unroll
        for (int j = 0; j < S::kColumns / 8; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[j][i] *= i < 2 ? of_low : of_high;
        }
      }

      const float low = bias && row < size.out ? to_float(bias[row]) : 0.f;
      const float high = bias && row + 8 < size.out ? to_float(bias[row + 8]) : 0.f;
      if constexpr (kFloat) {
#pragma unroll
        for (int j = 0; j < S::kColumns / 8; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int token = first_token + j * 8 + lane % 4 * 2 + i % 2, column = row + i / 2 * 8;
            if (token < size.tokens && column < size.out)
              y[static_cast<long long>(token) * size.out + column] = sum[j][i] + (i < 2 ? low : high);
          }
        }
      }
      constexpr int kChunks = kFloat ? 0 : S::kColumns / S::kChunk;
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        if (adds) {
          if (!S::kDedicated || chunk > 0) fetch_addend(chunk);
          waits.wait(arrived, added_parity);
          added_parity ^= 1;
        } else {
          if (leader) store_wait();
          named_sync(1 + group, 128);
        }
        constexpr int kEights = S::kChunk / 8;
        if constexpr (kSilu) {  // the rows lane / 4 are gates, those 8 further on what they multiply
#pragma unroll
          for (int j = 0; j < kEights; j += 2) {
            uint32_t r[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const float (&d)[4] = sum[chunk * kEights + j + i];
              r[i] = pack_pair<T>(silu(d[0]) * d[2], silu(d[1]) * d[3]);
            }
            const int token = (j + lane / 8 % 2) * 8 + lane % 8;
            store_matrix_x2_trans(panel + token * 64 + (warp ^ token / 2 % 4) * 16, r[0], r[1]);
          }
        } else {
          const uint32_t to = panel + lane % 8 * 128 + ((2 * warp + lane / 8 % 2) ^ lane % 8) * 16;
#pragma unroll
          for (int j = 0; j < kEights; ++j) {
            const float (&d)[4] = sum[chunk * kEights + j];
            float v[4] = {d[0] + low, d[1] + low, d[2] + high, d[3] + high};
            if (kGate) {
#pragma unroll
              for (int i = 0; i < 4; ++i) v[i] = gelu(v[i]);
            }
            if (adds) {
              uint32_t r[2];
              load_matrix_x2_trans(r[0], r[1], to + j * 1024);
#pragma unroll
              for (int i = 0; i < 2; ++i) {
                const float2 two = unpack_pair<T>(r[i]);
                v[2 * i] += two.x;
                v[2 * i + 1] += two.y;
              }
            }
            store_matrix_x2_trans(to + j * 1024, pack_pair<T>(v[0], v[1]), pack_pair<T>(v[2], v[3]));
          }
        }
        fence_stores();
        named_sync(1 + group, 128);
        if (leader) store_box(y_map, panel, first_row / (kSilu ? 2 : 1), first_token + chunk * S::kChunk);
      }
      if (!S::kDedicated) {
        if (leader) store_wait();
        for (int i = S::kStages; i > 0; --i) release((turn - i) % S::kStages);
      }
    }
    if (leader) store_wait();
    waits.report(words, QWEN_VL_WAIT_TILES);
  }
  cluster_sync();  // a block's memory and barriers outlive what its peer sends there
#endif
}

}  // namespace qwen
#endif
