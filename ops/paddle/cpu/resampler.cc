#include <cmath>
#include <vector>

#include "ops/paddle/cpu/attention.h"
#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {

void resampler(const QwenVlResampler& p) {
  const int64_t patches = p.patches, rows = p.images * patches, answers = int64_t{p.images} * p.queries,
                width = p.embed;
  const int64_t head_dim = width / p.heads;
  const Buffer projected = make_buffer(rows * width), normed = make_buffer(rows * width);
  const Buffer key_value = make_buffer(rows * 2 * width), mixed = make_buffer(answers * width);

  linear(floats(p.x), p.width, floats(p.kv_proj_weight), p.width, projected.get(), width, rows, width, p.width);
  layer_norm(projected.get(), floats(p.ln_kv_weight), floats(p.ln_kv_bias), p.epsilon, normed.get(), rows, width);
  linear(normed.get(), width, floats(p.key_value_weight), width, key_value.get(), 2 * width, rows, 2 * width, width);
  const float* value_bias = floats(p.value_bias);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const float* key_bias = floats(p.key_bias, r % patches, width);  // one row per patch: it carries the position
    float* row = key_value.get() + r * 2 * width;
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      row[c] += key_bias[c];
      row[width + c] += value_bias[c];
    }
  }

  const std::vector<int32_t> queries(p.images, static_cast<int32_t>(p.queries));
  Attention a{};
  a.query = floats(p.query);
  a.key = key_value.get();
  a.value = key_value.get() + width;
  a.out = mixed.get();
  a.batch = p.images, a.heads = p.heads, a.head_dim = head_dim, a.keys = patches;
  a.query_batch = 0;  // every image gets the same queries
  a.query_head = a.key_head = a.out_head = head_dim;
  a.query_row = width;
  a.key_batch = patches * 2 * width, a.key_row = 2 * width;
  a.out_batch = p.queries * width, a.out_row = width;
  a.queries = queries.data();
  a.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  attention(a);

  const Buffer attended = make_buffer(answers * width);
  linear(mixed.get(), width, floats(p.out_weight), width, attended.get(), width, answers, width, width);
  add_bias(attended.get(), floats(p.out_bias), answers, width);
  layer_norm(attended.get(), floats(p.ln_post_weight), floats(p.ln_post_bias), p.epsilon, mixed.get(), answers, width);
  linear(mixed.get(), width, floats(p.proj_weight), width, floats(p.y), width, answers, width, width);
}

}  // namespace qwen_vl::cpu
