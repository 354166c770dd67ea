#include "ops/kernels/sampling/sample.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"
#include "ops/kernels/sampling/advance.h"
#include "ops/kernels/sampling/arithmetic.h"
#include "ops/kernels/sampling/tuning.h"

namespace qwen {
namespace {

using Sum = unsigned long long;  // what atomicAdd and the shuffles take; holds uint64_t

constexpr int kMaxPart = 4095;  // tokens of a block: half words of their fixed-point weights add up in 32 bits
constexpr int kTopK = 0, kTopP = 1, kSelections = 2;

// A row's progress, zero at first.
struct Row {
  unsigned peak;                 // largest key
  unsigned prefix[kSelections];  // digits found so far of the smallest key to keep
  Sum wanted[kSelections];       // what the keys that share these digits must still add up to
  unsigned done[kSelections * kDigits + 1];  // blocks that have finished a pass
  Sum histogram[kSelections * kDigits][kBins];
  Sum parts[kParts];             // weight kept in each block's tokens
};

struct Buffers {
  Row* rows;
  unsigned* keys;  // [batch, vocab]
  size_t bytes;

  Buffers(const QwenVlSample& a, void* workspace) {
    Slices slices(workspace);
    rows = slices.take<Row>(a.batch * sizeof(Row));
    keys = slices.take<unsigned>(size_t(a.batch) * a.vocab * sizeof(unsigned));
    bytes = slices.used();
  }
};

// What a block works on: the tokens [begin, end) of one row.
struct Part {
  Row& row;
  unsigned* keys;
  int* sampling;
  const SamplingParameters& p;
  int begin, end;

  __device__ Part(const QwenVlSample& a, const Buffers& buffers, int index)
      : row(buffers.rows[blockIdx.y]), keys(buffers.keys + size_t(blockIdx.y) * a.vocab),
        sampling(a.sampling + size_t(blockIdx.y) * sampling_width(a.vocab)),
        p(*reinterpret_cast<const SamplingParameters*>(sampling)) {
    const int size = (a.vocab + kParts - 1) / kParts;
    begin = min(index * size, a.vocab);
    end = min(begin + size, a.vocab);
  }
  __device__ bool selects(int selection) const {
    return p.temperature > 0.f && (selection == kTopK ? p.top_k > 0 : p.top_p < 1.f);
  }
  // The smallest key that is kept, once the selections are done.
  __device__ unsigned threshold() const {
    if (!(p.temperature > 0.f)) return row.peak;
    return selects(kTopP) ? row.prefix[kTopP] : selects(kTopK) ? row.prefix[kTopK] : 0;
  }
};

// Whether this block is the last of its row to arrive; what the others wrote before is then visible to it.
__device__ bool last_to_arrive(unsigned* done) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(done, 1u) == kParts - 1;
  __syncthreads();
  __threadfence();
  return last;
}

// The sum of the values of the threads before this one; `total` is that of all.
__device__ Sum sum_before(Sum value, Sum& total) {
  __shared__ Sum sums[kThreads];
  __syncthreads();  // the sums of the call before have been read
  sums[threadIdx.x] = value;
  for (int distance = 1; distance < kThreads; distance *= 2) {
    __syncthreads();
    const Sum add = threadIdx.x >= distance ? sums[threadIdx.x - distance] : 0;
    __syncthreads();
    sums[threadIdx.x] += add;
  }
  __syncthreads();
  total = sums[kThreads - 1];
  return sums[threadIdx.x] - value;
}

__global__ void __launch_bounds__(kThreads) score_kernel(const QwenVlSample a, const Buffers buffers) {
  if (a.finished[blockIdx.y]) return;
  const Part part(a, buffers, blockIdx.x);
  const float* logits = a.logits + (size_t(blockIdx.y) * a.columns + a.columns - 1) * a.vocab;
  const bool early = a.counts[blockIdx.y] < part.p.min_new_tokens;
  unsigned peak = 0;
  for (int i = part.begin + threadIdx.x; i < part.end; i += kThreads) {
    const unsigned key = score_key(logits[i], part.p, is_seen(part.sampling, i), early && is_stop(a, i));
    part.keys[i] = key;
    peak = max(peak, key);
  }
  peak = __reduce_max_sync(0xffffffffu, peak);
  if (threadIdx.x % 32 == 0) atomicMax(&part.row.peak, peak);
}

// One digit of the smallest key to keep: every block counts (top-k) or weighs (top-p) its keys, the last one decides.
__global__ void __launch_bounds__(kThreads)
    select_kernel(const QwenVlSample a, const Buffers buffers, int selection, int digit) {
  if (a.finished[blockIdx.y]) return;
  const Part part(a, buffers, blockIdx.x);
  if (!part.selects(selection)) return;
  __shared__ unsigned low[kBins], high[kBins];  // 32-bit atomics are done in shared memory, 64-bit ones are loops
  for (int i = threadIdx.x; i < kBins; i += kThreads) low[i] = high[i] = 0;
  __syncthreads();

  Row& row = part.row;
  const unsigned prefix = row.prefix[selection], peak = row.peak;
  const unsigned allowed = selection == kTopP && part.selects(kTopK) ? row.prefix[kTopK] : 0;
  for (int i = part.begin + threadIdx.x; i < part.end; i += kThreads) {
    const unsigned key = part.keys[i];
    if (key < allowed || !shares_digits(key, prefix, digit)) continue;
    const Sum measure = selection == kTopK ? 1 : key_weight(key, peak);
    const unsigned bin = digit_of(key, digit);
    if (measure & 0xfffff) atomicAdd(&low[bin], unsigned(measure & 0xfffff));
    if (measure >> 20) atomicAdd(&high[bin], unsigned(measure >> 20));
  }
  __syncthreads();
  const int pass = selection * kDigits + digit;
  Sum* histogram = row.histogram[pass];
  for (int i = threadIdx.x; i < kBins; i += kThreads) {
    const Sum sum = (Sum(high[i]) << 20) + low[i];
    if (sum) atomicAdd(&histogram[i], sum);
  }
  if (!last_to_arrive(&row.done[pass])) return;

  constexpr int kEach = kBins / kThreads;
  const int top = kBins - 1 - threadIdx.x * kEach;  // bins top .. top - kEach + 1 are this thread's
  Sum bins[kEach], mine = 0, total, wanted = row.wanted[selection];  // read by all before one writes it below
  for (int i = 0; i < kEach; ++i) mine += bins[i] = __ldcg(&histogram[top - i]);
  Sum above = sum_before(mine, total);
  if (digit == 0) wanted = selection == kTopK ? min(Sum(part.p.top_k), total) : wanted_weight(part.p.top_p, total);
  if (above >= wanted || above + mine < wanted) return;  // true of one thread alone
  for (int i = 0; i < kEach; ++i) {
    if (above + bins[i] >= wanted) {
      row.prefix[selection] = prefix | unsigned(top - i) << digit_shift(digit);
      row.wanted[selection] = wanted - above;
      return;
    }
    above += bins[i];
  }
}

// Every block adds up the weights that it keeps; the last one draws and moves the row's state on.
__global__ void __launch_bounds__(kThreads) draw_kernel(const QwenVlSample a, const Buffers buffers) {
  const int b = blockIdx.y;
  if (a.finished[b]) return;
  const Part part(a, buffers, blockIdx.x);
  Row& row = part.row;
  const unsigned threshold = part.threshold(), peak = row.peak;
  auto weight = [&](int token) -> Sum {
    const unsigned key = part.keys[token];
    return key < threshold ? 0 : key_weight(key, peak);
  };
  Sum mine = 0, total;
  for (int i = part.begin + threadIdx.x; i < part.end; i += kThreads) mine += weight(i);
  sum_before(mine, total);
  if (threadIdx.x == 0) row.parts[blockIdx.x] = total;
  if (!last_to_arrive(&row.done[kSelections * kDigits])) return;

  const int position = a.positions[b] + a.lengths[b];
  const Sum in_part = threadIdx.x < kParts ? __ldcg(&row.parts[threadIdx.x]) : 0;
  Sum before = sum_before(in_part, total);
  const Sum drawn = part.p.temperature > 0.f ? high_product(random_bits(part.p.seed, position), total) : 0;
  __shared__ int chosen;
  __shared__ Sum rest;
  if (before <= drawn && drawn < before + in_part) {
    chosen = threadIdx.x;
    rest = drawn - before;
  }
  __syncthreads();

  const Part its(a, buffers, chosen);
  const int each = (its.end - its.begin + kThreads - 1) / kThreads;
  const int begin = min(its.begin + int(threadIdx.x) * each, its.end), end = min(begin + each, its.end);
  mine = 0;
  for (int i = begin; i < end; ++i) mine += weight(i);
  before = sum_before(mine, total);
  if (rest < before || rest >= before + mine) return;
  int token = begin;
  for (; (before += weight(token)) <= rest; ++token) {
  }
  mark_seen(part.sampling, token);
  advance(a, b, token, a.lengths[b]);
}

}  // namespace
}  // namespace qwen

extern "C" size_t qwen_vl_sample_workspace(const QwenVlSample* arguments) {
  return qwen::Buffers(*arguments, nullptr).bytes;
}

extern "C" int qwen_vl_sample(QwenVlContext*, const QwenVlSample* arguments, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  using namespace qwen;
  const QwenVlSample& a = *arguments;
  const Buffers buffers(a, workspace);
  if (workspace_bytes < buffers.bytes) return QWEN_VL_WORKSPACE_SMALL;
  if (a.batch > 65535 || a.vocab > kParts * kMaxPart) return QWEN_VL_UNSUPPORTED;
  if (a.batch == 0 || a.columns == 0) return QWEN_VL_OK;

  const dim3 grid(kParts, a.batch);
  QWEN_VL_TRY(cudaMemsetAsync(buffers.rows, 0, a.batch * sizeof(Row), stream));
  score_kernel<<<grid, kThreads, 0, stream>>>(a, buffers);
  QWEN_VL_TRY(cudaGetLastError());
  for (int selection = 0; selection < kSelections; ++selection) {
    for (int digit = 0; digit < kDigits; ++digit) {
      select_kernel<<<grid, kThreads, 0, stream>>>(a, buffers, selection, digit);
      QWEN_VL_TRY(cudaGetLastError());
    }
  }
  draw_kernel<<<grid, kThreads, 0, stream>>>(a, buffers);
  return cudaGetLastError();
}
