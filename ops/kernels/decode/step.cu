// The decode kernel: one persistent block per multiprocessor goes through all layers of one step.
#include <algorithm>

#include "ops/formats/registry.h"
#include "ops/kernels/decode/activations.cuh"
#include "ops/kernels/decode/attention.cuh"
#include "ops/kernels/decode/choose.cuh"
#include "ops/kernels/decode/epilogues.cuh"
#include "ops/kernels/decode/multiply.cuh"

namespace qwen {

// Per-row constants of the step, by the computing warps.
__device__ void begin_step(const Params& p, BlockState& block, float* rotary) {
  const QwenVlDecodeArgs& a = p.args;
  const int half = a.head_dim / 2;
  if (static_cast<int>(threadIdx.x) < a.batch) {
    const int row = threadIdx.x, position = a.positions[row];
    const float tokens = position + 1.0f;
    const bool scaled = a.seq_length > 1 && position + 1 > a.seq_length;
    const float log_n = scaled ? logf(tokens) / logf(float(a.seq_length)) : 1.0f;
    block.positions[row] = position;
    block.lengths[row] = a.finished && a.finished[row] ? 0 : min(position + 1, a.cache_slots);
    block.query_scale[row] = log_n * 1.4426950408889634f / sqrtf(float(a.head_dim));  // scores in powers of two
  }
  for (int i = threadIdx.x; a.layers > 0 && i < a.batch * half; i += kComputeThreads) {
    float sine, cosine;
    sincosf(a.positions[i / half] * a.inv_freq[i], &sine, &cosine);
    reinterpret_cast<float2*>(rotary)[i] = make_float2(cosine, sine);
  }
  sync_compute();
  if (a.layers > 0) named_arrive(kBegunBarrier, kThreads);
}

// The tokens' embeddings, or the rows given instead, become the residual.
template <typename T>
__device__ void embed(const Params& p, Epilogue<T>& epilogue) {
  const QwenVlDecodeArgs& a = p.args;
  const int row = threadIdx.x % kMaxRows;
  epilogue.squares = 0;
  if (row >= a.batch) return;
  const int64_t token = a.hidden_in ? row : min(max(a.next_tokens[row], int64_t{0}), int64_t{a.vocab} - 1);
  const T* from = static_cast<const T*>(a.hidden_in ? a.hidden_in : a.token_embedding) + token * a.hidden;
  const Range range = share(a.hidden, 0);
#pragma unroll 1
  for (int i = range.begin + threadIdx.x / kMaxRows; i < range.end; i += kComputeThreads / kMaxRows) {
    epilogue.store_residual(i, row, to_float(from[i]));
  }
}

// Whether weights leave the ring before they are needed. Without bulk copies it is slower: all threads would need the
// registers.
template <int Pieces>
constexpr bool kTakeAhead = QWEN_VL_BULK_COPY && 64 * Pieces <= kTakeAheadHeadDim;

// The input of product `m`, once all blocks have left their part of it. The out-projection's first weights come from
// the ring after the cache, so they are taken here.
template <typename T, int Pieces, class Weights>
__device__ Input take_input(const Params& p, const Product& m, Ring& ring, BlockState& block, char* activations,
                            Weights& weights, unsigned tag) {
  const QwenVlDecodeArgs& a = p.args;
  Input input(activations, m.columns, a.batch);
  if (m.role == kDown) {
    input.open_window(p.mlp, m.groups());
  } else if (m.role == kOut) {
    attend<T, Pieces>(p, ring, m.layer, block, activations, tag);
    weights.take_first(ring, m);
    load_attended(p, activations, tag);
  } else {
    const void* weight = m.role == kQkv      ? layer_of(a.ln_1_weight, m.layer, a.hidden)
                         : m.role == kGateUp ? layer_of(a.ln_2_weight, m.layer, a.hidden)
                                             : a.ln_f_weight;
    load_normed<T>(p, weight, activations, block);
  }
  return input;
}

// At the grid barrier after the residual or the MLP's activations changed: with the residual, this block's share of the
// sum of squares goes out.
__device__ void arrive(GridBarrier& grid, const Params& p, BlockState& block, bool residual, float squares) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  squares = sum_rows(squares);
  if (lane < kMaxRows) block.squares[warp][lane] = squares;
  grid.arrive([&] {
    if (lane >= kMaxRows || !residual) return;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) sum += block.squares[i][lane];
    p.squares[lane * gridDim.x + blockIdx.x] = sum;
  });
}

// After the head: every block leaves its best tokens, one of them chooses.
__device__ void choose(GridBarrier& grid, const Params& p, BlockState& block, Best best) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  best = best_rows(best);
  if (lane < kMaxRows) block.best[warp][lane] = best;
  grid.arrive([&] {
    if (lane >= kMaxRows) return;
    Best all = block.best[0][lane];
    for (int i = 1; i < kWarps; ++i) all.take(block.best[i][lane].value, block.best[i][lane].index);
    p.best[blockIdx.x * kMaxRows + lane] = all;
  });
  if (blockIdx.x != 0) return;
  grid.wait();
  choose_tokens(p);
}

template <class Format, int Pieces>
__device__ void compute_step(const Params& p, Ring ring, BlockState& block, char* activations, float* reduction,
                             const float* rotary) {
  using T = typename Format::Value;
  const QwenVlDecodeArgs& a = p.args;
  GridBarrier grid(p.barrier);
  Epilogue<T> epilogue(p, block, rotary);
  embed<T>(p, epilogue);
  Weights<typename Format::Share, kTakeAhead<Pieces>> weights;
  bool residual = true;  // the last product changed it
#pragma unroll 1
  for (int n = 0; n < products_of(a); ++n) {
    const Product m = product_of<Format>(a, n);
    const unsigned tag = grid.tag(m.layer);
    // (what the attention needs of qkv, and the out-projection of the attention, comes as words with tags)
    if (m.role != kOut) {
      arrive(grid, p, block, residual, epilogue.squares);
      weights.take_first(ring, m);
      grid.wait();
    }
    Input input = take_input<T, Pieces>(p, m, ring, block, activations, weights, tag);
    end_exchange(block, p);
    epilogue.begin(m, tag);
    multiply<T>(ring, m, a.batch, input, weights, reduction, epilogue);
    begin_exchange(block, p);
    residual = m.role == kOut || m.role == kDown;
  }
  // (the last epilogue has put the residual where hidden_out is)
  if (!a.hidden_out && !a.leave_choice) choose(grid, p, block, epilogue.best);
  if (blockIdx.x == 0 && threadIdx.x == 0) grid.leave_ready();
}

template <class Format, int Pieces>
__global__ void __launch_bounds__(kThreads, 1) step_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) char shared[];
  __shared__ BlockState block;
  __shared__ uint64_t full[kMaxStages], empty[kMaxStages];
  constexpr int kBytes = kStageBytes<Format>;
  static_assert(kBytes % 128 == 0 && kChunk * 2 % 128 == 0, "stages and their rows are whole lines");
  const SharedLayout layout(p.tuning.stages * kBytes, p.args.batch, p.args.hidden, p.args.head_dim);
  float* rotary = reinterpret_cast<float*>(shared + layout.rotary);
  const Ring ring{shared, in_register(shared_address(full)), in_register(shared_address(empty)), p.tuning.stages,
                  kBytes};
  if (threadIdx.x == 0) {
    ring.init();
    block.in_flight = p.tuning.in_exchange;
    begin_waits(p.given_up);
  }
  __syncthreads();
  if (threadIdx.x >= kComputeThreads) {
    registers_release<kStreamRegisters>();
    stream_step<Format>(p, ring, block.lengths, &block.in_flight);
  } else {
    registers_take<kComputeRegisters>();
    begin_step(p, block, rotary);
    compute_step<Format, Pieces>(p, ring, block, shared + layout.activations,
                                 reinterpret_cast<float*>(shared + layout.reduction), rotary);
  }
  if (given_up().now) outlast_stages();
}

namespace {  // the host's side

using Kernel = void (*)(Params);

// Whether the format takes the sizes, of which rows that stand together are of one half of a head.
template <class Format>
bool fits(const QwenVlDecodeArgs& a) {
  const bool layers = a.mlp_width % Format::kColumns == 0 && a.head_dim % (2 * Format::kRows) == 0;
  return a.dtype == Format::kValues && a.hidden % Format::kColumns == 0 && (a.layers == 0 || layers) &&
         (a.hidden_out || a.vocab % Format::kRows == 0);
}

bool valid(const QwenVlDecodeArgs& a) {
  return a.batch > 0 && a.batch <= a.cache_batch && a.layers >= 0 && a.heads > 0 && a.head_dim > 0 &&
         a.head_dim <= kMaxHeadDim && a.head_dim % 8 == 0 && a.hidden == a.heads * a.head_dim && a.mlp_width > 0 &&
         a.mlp_width % 8 == 0 && a.vocab > 0 && a.cache_slots > 0 && a.generated_slots >= 0 && a.stop_count >= 0 &&
         (a.ring_stages == 0 || a.ring_stages >= kMinStages) && a.rows_in_flight >= 0 && a.rows_in_exchange >= 0 &&
         a.ahead_columns >= 0;
}

// How a step is launched on the current device.
struct Plan {
  Kernel kernel = nullptr;
  int stage_bytes;
  Card card;
  int rows;  // of one launch
  int static_shared;

  // As many as fit beside what so many rows need.
  int stages(const QwenVlDecodeArgs& a, int launch_rows) const {
    const int rest = SharedLayout(0, launch_rows, a.hidden, a.head_dim).total;
    return std::min((card.shared_bytes - static_shared - rest) / stage_bytes, kMaxStages);
  }
};

cudaError_t make_plan(const QwenVlDecodeArgs& a, Plan& plan) {
  with_format(a.format, [&](auto format) {
    using Format = decltype(format);
    if constexpr (Format::kOnGpu) {
      plan.stage_bytes = kStageBytes<Format>;
      if (fits<Format>(a)) plan.kernel = a.head_dim <= 128 ? step_kernel<Format, 2> : step_kernel<Format, 4>;
    }
  });
  if (!plan.kernel || !valid(a)) return cudaErrorInvalidValue;
  cudaFuncAttributes attributes;
  const void* kernel = reinterpret_cast<const void*>(plan.kernel);
  if (const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel)) return error;
  plan.card = card();
  plan.static_shared = static_cast<int>(attributes.sharedSizeBytes);
  for (plan.rows = std::min(a.batch, kMaxRows); plan.rows > 0; --plan.rows) {
    if (plan.stages(a, plan.rows) >= kMinStages) return cudaSuccess;
  }
  return cudaErrorInvalidConfiguration;
}

// The arguments of rows [first, first + rows) alone.
QwenVlDecodeArgs rows_of(QwenVlDecodeArgs a, int first, int rows) {
  const size_t row_cache = size_t(a.heads) * a.cache_slots * a.head_dim * 2;
  a.batch = rows;
  a.inv_freq += first * (a.head_dim / 2);
  a.positions += first;
  a.next_tokens += first;
  a.generated += size_t(first) * a.generated_slots;
  a.counts += first;
  if (a.finished) a.finished += first;
  a.k_cache = static_cast<char*>(a.k_cache) + first * row_cache;
  a.v_cache = static_cast<char*>(a.v_cache) + first * row_cache;
  a.logits += size_t(first) * a.vocab;
  const size_t skipped = size_t(first) * a.hidden * 2;
  if (a.hidden_in) a.hidden_in = static_cast<const char*>(a.hidden_in) + skipped;
  if (a.hidden_out) a.hidden_out = static_cast<char*>(a.hidden_out) + skipped;
  return a;
}

cudaError_t launch(const Plan& plan, Params& p, cudaStream_t stream) {
  const QwenVlDecodeArgs& a = p.args;
  const int blocks = plan.card.multiprocessors;
  p.tuning = tune(plan.card, a, plan.stage_bytes, plan.stages(a, a.batch));
  p.splits = std::min(std::max(blocks / (a.batch * a.heads), 1), kMaxSplits);
  if (a.hidden_out) p.rounded = a.hidden_out;
  const int shared = SharedLayout(p.tuning.stages * plan.stage_bytes, a.batch, a.hidden, a.head_dim).total;
  const void* kernel = reinterpret_cast<const void*>(plan.kernel);
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error) return error;
  void* arguments[] = {&p};
  return cudaLaunchCooperativeKernel(kernel, dim3(blocks), dim3(kThreads), arguments, shared, stream);
}

}  // namespace
}  // namespace qwen

size_t qwen_vl_decode_workspace_bytes(const QwenVlDecodeArgs* args) {
  using namespace qwen;
  Plan plan;
  if (make_plan(*args, plan) || !qwen_vl_wait_words()) return 0;  // (allocated here, not within a capture)
  Params p{*args};
  return place_workspace(p, nullptr, plan.card.multiprocessors);
}

int qwen_vl_decode_step(const QwenVlDecodeArgs* args, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  using namespace qwen;
  Plan plan;
  if (const cudaError_t error = make_plan(*args, plan)) return error;
  Params p{*args};
  if (place_workspace(p, workspace, plan.card.multiprocessors) > workspace_bytes) {
    return cudaErrorInvalidValue;
  }
  p.given_up = qwen_vl_wait_words();
  if (!p.given_up) return cudaErrorMemoryAllocation;
  const int launches = (args->batch + plan.rows - 1) / plan.rows;
  for (int i = 0; i < launches; ++i) {
    const int first = static_cast<int>(static_cast<int64_t>(args->batch) * i / launches);
    const int end = static_cast<int>(static_cast<int64_t>(args->batch) * (i + 1) / launches);
    p.args = rows_of(*args, first, end - first);
    if (const cudaError_t error = launch(plan, p, stream)) return error;
  }
  return cudaSuccess;
}
