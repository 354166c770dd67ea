#include "ops/paddle/cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/parallel.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {
namespace {

constexpr int64_t kQueryBlock = 64;  // a block's scores against 1024 keys stay in the second-level cache

struct Task {
  int64_t row, head, first, queries;
};

// A single query (decode): two passes over the row's keys and values, no matrix product to set up.
void attend_one(const Attention& p, const Task& t, const float* q, const float* k, const float* v, int64_t keys,
                float* scores, float* out) {
  for (int64_t j = 0; j < keys; ++j) {
    const float* kj = k + j * p.key_row;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < p.head_dim; ++d) sum += q[d] * kj[d];
    scores[j] = sum * p.scale;
  }
  softmax_row(scores, keys, keys);
  std::fill(out, out + p.head_dim, 0.0f);
  for (int64_t j = 0; j < keys; ++j) {
    const float* vj = v + j * p.key_row;
    const float weight = scores[j];
#pragma omp simd
    for (int64_t d = 0; d < p.head_dim; ++d) out[d] += weight * vj[d];
  }
}

// A block of queries of one row and head; `scores` is scratch memory that grows.
void attend(const Attention& p, const Task& t, std::vector<float>& scores) {
  const float* q = p.query + t.row * p.query_batch + t.head * p.query_head + t.first * p.query_row;
  const float* k = p.key + t.row * p.key_batch + t.head * p.key_head;
  const float* v = p.value + t.row * p.key_batch + t.head * p.key_head;
  float* out = p.out + t.row * p.out_batch + t.head * p.out_head + t.first * p.out_row;
  const int64_t past = p.causal ? p.past[t.row] + t.first : 0;
  const int64_t keys = p.causal ? past + t.queries : p.keys;  // no key beyond the block's last query is read
  scores.resize(std::max<size_t>(scores.size(), t.queries * keys));
  if (t.queries == 1) return attend_one(p, t, q, k, v, keys, scores.data(), out);
  product_transposed(q, p.query_row, k, p.key_row, scores.data(), keys, t.queries, keys, p.head_dim, p.scale);
  for (int64_t r = 0; r < t.queries; ++r) softmax_row(scores.data() + r * keys, p.causal ? past + r + 1 : keys, keys);
  product(scores.data(), keys, v, p.key_row, out, p.out_row, t.queries, p.head_dim, keys);
}

}  // namespace

void attention(const Attention& p) {
  std::vector<Task> tasks;
  for (int64_t row = 0; row < p.batch; ++row)
    for (int64_t first = 0; first < p.queries[row]; first += kQueryBlock)
      for (int64_t head = 0; head < p.heads; ++head)
        tasks.push_back({row, head, first, std::min<int64_t>(kQueryBlock, p.queries[row] - first)});
  // Causal blocks differ in work, so threads take the next one that is left. (With OpenMP's dynamic schedule, code of
  // GCC 12 got wrong iterations from the OpenMP runtime that Paddle 2.6.2 ships.)
  std::atomic<size_t> next{0};
  Carrier carrier;  // memory may run out, and oneDNN may refuse a product
#pragma omp parallel
  carrier.guard([&] {
    std::vector<float> scores;
    for (size_t i = next++; i < tasks.size(); i = next++) attend(p, tasks[i], scores);
  });
  carrier.rethrow();
}

}  // namespace qwen_vl::cpu
