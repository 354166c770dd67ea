#include <cmath>
#include <vector>

#include "ops/paddle/cpu/attention.h"
#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {

void resampler(const Resampler& p) {
  const int64_t rows = p.images * p.patches, answers = p.images * p.queries, width = p.width;
  const int64_t head_dim = width / p.heads;
  const Buffer projected = make_buffer(rows * width), normed = make_buffer(rows * width);
  const Buffer key_value = make_buffer(rows * 2 * width), mixed = make_buffer(answers * width);

  linear(p.features, p.vision_width, p.kv_proj_weight, p.vision_width, projected.get(), width, rows, width, p.vision_width);
  layer_norm(projected.get(), p.ln_kv_weight, p.ln_kv_bias, p.eps, normed.get(), rows, width);
  linear(normed.get(), width, p.key_value_weight, width, key_value.get(), 2 * width, rows, 2 * width, width);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const float* key_bias = p.key_bias + r % p.patches * width;  // one row per patch: it carries the position
    float* row = key_value.get() + r * 2 * width;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      row[c] += key_bias[c];
      row[width + c] += p.value_bias[c];
    }
  }

  const std::vector<int32_t> queries(p.images, static_cast<int32_t>(p.queries));
  Attention a{};
  a.query = p.query;
  a.key = key_value.get();
  a.value = key_value.get() + width;
  a.out = mixed.get();
  a.batch = p.images, a.heads = p.heads, a.head_dim = head_dim, a.keys = p.patches;
  a.query_batch = 0;  // every image gets the same queries
  a.query_head = a.key_head = a.out_head = head_dim;
  a.query_row = width;
  a.key_batch = p.patches * 2 * width, a.key_row = 2 * width;
  a.out_batch = p.queries * width, a.out_row = width;
  a.queries = queries.data();
  a.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  attention(a);

  const Buffer attended = make_buffer(answers * width);
  linear(mixed.get(), width, p.out_weight, width, attended.get(), width, answers, width, width);
  add_bias(attended.get(), p.out_bias, answers, width);
  layer_norm(attended.get(), p.ln_post_weight, p.ln_post_bias, p.eps, mixed.get(), answers, width);
  linear(mixed.get(), width, p.proj_weight, width, p.out, width, answers, width, width);
}

}  // namespace qwen_vl::cpu
