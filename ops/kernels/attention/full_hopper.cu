// Attention in which every query sees every key: the encoder and the resampler.
#include "ops/kernels/attention/hopper.cuh"
#include "ops/kernels/attention/rows.cuh"
#include "ops/kernels/attention/tuning.h"
#include "ops/kernels/common/cluster.cuh"
#include "ops/kernels/common/hopper_launch.cuh"
#include "ops/kernels/common/status.h"

#if CUDART_VERSION >= 12000
namespace qwen {
namespace {

// A block takes 128 queries, 64 for each of two warpgroups; a third warpgroup fetches. Blocks run in clusters of two
// with the same keys and values, of which each fetches half of every tile for both: without, the fetches take longer
// than the arithmetic.
template <int D> struct FullShape : FullTile, Tile<D, FullTile::kKeys> {
  static constexpr int kQueryPanel = kQueries * 128;
  static constexpr int kKeyTiles = kQueryPanel * Tile<D, kKeys>::kPanels;  // the queries come first
  static constexpr int kValueTiles = kKeyTiles + kStages * Tile<D, kKeys>::kBytes;
  static constexpr int kBarriers = kValueTiles + kStages * Tile<D, kKeys>::kBytes;
  static constexpr int kTotal = kBarriers + (4 * kStages + 1) * 8;
};

template <typename T, int D>
__global__ void __launch_bounds__(QWEN_VL_HAS_WGMMA ? FullShape<D>::kThreads : 1, 1)
    full_kernel(const QwenVlAttention a, const __grid_constant__ CUtensorMap q_map,
                const __grid_constant__ CUtensorMap k_map, const __grid_constant__ CUtensorMap v_map,
                const __grid_constant__ CUtensorMap out_map, volatile uint64_t* words) {
#if QWEN_VL_HAS_WGMMA
  extern __shared__ __align__(1024) unsigned char memory[];
  using S = FullShape<D>;
  using Place = RingPlace<S::kStages>;
  const int group = blockIdx.z, head = blockIdx.y, first_query = blockIdx.x * S::kQueries;
  const int last = (a.key_rows - 1) / S::kKeys;  // tiles go from the last, which may be partly out of bounds, to 0
  const uint32_t queries = shared_address(memory);
  const uint32_t k_tiles = queries + S::kKeyTiles, v_tiles = queries + S::kValueTiles;
  const uint32_t k_full = queries + S::kBarriers, v_full = k_full + S::kStages * 8;
  const uint32_t k_empty = v_full + S::kStages * 8, v_empty = k_empty + S::kStages * 8;
  const uint32_t q_full = v_empty + S::kStages * 8, rank = cluster_rank();
  if (threadIdx.x == 0) {
    prefetch_map(k_map);
    prefetch_map(q_map);
    prefetch_map(v_map);
    for (int i = 0; i < S::kStages; ++i) {
      barrier_init(k_full + i * 8);
      barrier_init(v_full + i * 8);
      barrier_init(k_empty + i * 8, 4);  // the cluster's computing warpgroups
      barrier_init(v_empty + i * 8, 4);
    }
    barrier_init(q_full);
    barrier_init_fence();
  }
  cluster_start();

  if (threadIdx.x < 128) {
    registers_release<S::kFetchRegisters>();
    if (threadIdx.x == 0) {
      const bool loses = test_loses(words);
      auto fetch = [&](const CUtensorMap& map, uint32_t tiles, uint32_t full, uint32_t empty, Place place, int tile) {
        const uint32_t barrier = full + place.stage * 8, half = rank * (S::kKeys / 2);
        barrier_wait_or_end(empty + place.stage * 8, place.parity ^ 1);
        barrier_expect(barrier, S::kBytes);
#pragma unroll
        for (int panel = loses; panel < S::kPanels; ++panel)
          fetch_box(tiles + place.stage * S::kBytes + panel * S::kPanelBytes + half * 128, map, barrier, panel * 64,
                    tile * S::kKeys + half, head, group, uint16_t(3));
      };
      Place k(0), v(0);
      fetch(k_map, k_tiles, k_full, k_empty, k, last);
      barrier_expect(q_full, S::kKeyTiles);
#pragma unroll
      for (int panel = 0; panel < S::kPanels; ++panel)
        fetch_box(queries + panel * S::kQueryPanel, q_map, q_full, panel * 64, first_query, head,
                  a.query_group ? group : 0);
#pragma unroll 1
      for (int tile = last; tile > 0; --tile, v.advance()) {
        k.advance();
        fetch(k_map, k_tiles, k_full, k_empty, k, tile - 1);
        fetch(v_map, v_tiles, v_full, v_empty, v, tile);
      }
      fetch(v_map, v_tiles, v_full, v_empty, v, 0);
    }
  } else {
    registers_take<S::kComputeRegisters>();
    const int consumer = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
    const bool leader = threadIdx.x % 128 == 0;
    CountedWaits waits;
    const uint32_t peer_k_empty = cluster_address(k_empty, rank ^ 1);
    const uint32_t peer_v_empty = cluster_address(v_empty, rank ^ 1);
    // Only a stage that will be filled again is given back: the peer may have ended by then.
    auto release = [&](uint32_t empty, uint32_t peer_empty, Place place, int tile) {
      if (!leader || tile < S::kStages) return;
      barrier_arrive(empty + place.stage * 8);
      barrier_arrive_at(peer_empty + place.stage * 8);
    };
    // The two warpgroups multiply in turns, so that one's exponentials go beside the other's products.
    auto take_turn = [&] { named_sync(1 + consumer, 256); };
    auto pass_turn = [&] { named_arrive(2 - consumer, 256); };

    // A warp's 16 rows, in queries and later in what is written: lane % 16, at 16-byte unit 2 step + lane / 16.
    const int warp_row = (threadIdx.x / 32 - 4) * 16, row = warp_row + lane % 16;
    auto unit_address = [&](int step) {
      const int unit = step % 4 * 2 + lane / 16;
      return queries + step / 4 * S::kQueryPanel + row * 128 + (unit ^ row % 8) * 16;
    };
    uint32_t query[S::kSteps][4];
    waits.wait(q_full, 0);
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) load_matrix_x4(query[step], unit_address(step));

    float output[D / 8][4] = {}, score[S::kKeys / 8][4];
    uint32_t weights[S::kKeys / 16][4];
    RowSoftmax softmax(a.scale);
    // Scores to unnormalised weights: both rows' maxima before the exponentials; their sums (add_up) come later.
    auto weigh = [&] {
      float peaks[2][4], offset[2];
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& peak = peaks[i / 2][n % 2 * 2 + i % 2];
          peak = n < 2 ? score[n][i] : fmaxf(peak, score[n][i]);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float peak = softmax.highest[half];
#pragma unroll
        for (int i = 0; i < 4; ++i) peak = fmaxf(peak, peaks[half][i]);
        offset[half] = softmax.raise(half, peak);
      }
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) score[n][i] = exp2_approx(fmaf(score[n][i], softmax.scale, -offset[i / 2]));
      }
    };
    auto add_up = [&] {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sums[2] = {0.f, 0.f};
#pragma unroll
        for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) sums[i] += score[n][2 * half + i];
        }
        softmax.add(half, sums[0] + sums[1]);
      }
    };
    Place k(0);
    if (consumer == 1) pass_turn();
    waits.wait(k_full, 0);
    take_turn();
    multiply_keys<T, D, S::kKeys>(score, query, k_tiles);
    if (consumer == 0 || last > 0) pass_turn();
    wgmma_wait<0>();
    wgmma_settle(score);
    release(k_empty, peer_k_empty, k, last);
#pragma unroll
    for (int n = 0; n < S::kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (last * S::kKeys + n * 8 + lane % 4 * 2 + i % 2 >= a.key_rows) score[n][i] = -CUDART_INF_F;
    }
    weigh();
    add_up();
    pack_weights<T, S::kKeys>(weights, score);
    for (int tile = last; tile > 0; --tile) {
      const Place v = k;
      k.advance();
      waits.wait(k_full + k.stage * 8, k.parity);
      waits.wait(v_full + v.stage * 8, v.parity);
      take_turn();
      multiply_keys<T, D, S::kKeys>(score, query, k_tiles + k.stage * S::kBytes);
      multiply_values<T, D, S::kKeys>(output, weights, v_tiles + v.stage * S::kBytes);
      if (consumer == 0 || tile > 1) pass_turn();
      wgmma_wait<1>();
      wgmma_settle(score);
      release(k_empty, peer_k_empty, k, tile - 1);
      weigh();
      wgmma_wait<0>();
      wgmma_settle(output);
      release(v_empty, peer_v_empty, v, tile);
      softmax.rescale(output);
      pack_weights<T, S::kKeys>(weights, score);
      add_up();
    }
    waits.wait(v_full + k.stage * 8, k.parity);
    multiply_values<T, D, S::kKeys>(output, weights, v_tiles + k.stage * S::kBytes);
    wgmma_wait<0>();
    wgmma_settle(output);

    const float inverse[2] = {softmax.inverse(softmax.sum(0)), softmax.inverse(softmax.sum(1))};
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) {
      uint32_t r[4] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int n = 2 * step + i / 2, half = i % 2;
        if (n < D / 8)
          r[i] = pack_pair<T>(output[n][2 * half] * inverse[half], output[n][2 * half + 1] * inverse[half]);
      }
      store_matrix_x4(unit_address(step), r);
    }
    fence_stores();
    __syncwarp();
    if (lane == 0) {
#pragma unroll
      for (int panel = 0; panel < S::kPanels; ++panel)
        store_box(out_map, queries + panel * S::kQueryPanel + warp_row * 128, panel * 64, first_query + warp_row, head,
                  group);
      store_wait();
    }
    waits.report(words, QWEN_VL_WAIT_KEYS);
    // The peer still arrives in this block's memory; who has ended counts as there.
    if (waits.over()) cluster_sync();
  }
#endif
}

template <typename T, int D> bool launch(const QwenVlAttention& a, cudaStream_t stream, int* status) {
  using S = FullShape<D>;
  const auto kernel = full_kernel<T, D>;
  const bool usable = can_run(kernel, S::kThreads, S::kTotal) && qwen_vl_wait_words();
  if (!usable) return false;
  const int query_groups = a.query_group ? a.groups : 1;  // groups may share their queries
  const auto map = [&](CUtensorMap* to, const void* base, int rows, long long row, long long head, int groups,
                       long long group, int box_rows) {
    return make_tensor_map(to, std::is_same<T, __half>::value, base, D, rows, row, a.heads, head, groups, group,
                           box_rows);
  };
  CUtensorMap q, k, v, out;
  if (!map(&q, a.q, a.query_rows, a.query_row, a.query_head, query_groups, a.query_group, S::kQueries) ||
      !map(&k, a.k, a.key_rows, a.key_row, a.key_head, a.groups, a.key_group, S::kKeys / 2) ||
      !map(&v, a.v, a.key_rows, a.key_row, a.key_head, a.groups, a.key_group, S::kKeys / 2) ||
      !map(&out, a.out, a.query_rows, a.out_row, a.out_head, a.groups, a.out_group, 16))
    return false;
  const dim3 grid(2 * ceil_div(a.query_rows, 2 * S::kQueries), a.heads, a.groups);
  *status = launch_pairs(kernel, grid, S::kThreads, S::kTotal, stream, a, q, k, v, out, qwen_vl_wait_words());
  return true;
}

}  // namespace

bool attention_full_hopper(const QwenVlAttention& a, cudaStream_t stream, int* status) {
  return with_kernel_type(
      a, [&](auto type, auto dim) { return launch<decltype(type), decltype(dim)::value>(a, stream, status); });
}

}  // namespace qwen
#else
bool qwen::attention_full_hopper(const QwenVlAttention&, cudaStream_t, int*) { return false; }
#endif
