#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/paddle/cpu/attention.h"
#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/parallel.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {
namespace {

// Where a valid token of the padded batch lives: rows are packed so that padding costs nothing.
struct Token {
  int64_t row, column, slot;
};

// Rotates the halves of one head: (a, b) -> (a cos - b sin, b cos + a sin), times `scale`.
void rotate(const float* in, const float* cosine, const float* sine, float scale, float* out, int64_t half) {
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = in[i], b = in[half + i];
    out[i] = (a * cosine[i] - b * sine[i]) * scale;
    out[half + i] = (b * cosine[i] + a * sine[i]) * scale;
  }
}

}  // namespace

void decoder(const QwenVlDecoder& p) {
  const int64_t hidden = p.hidden, mlp = p.mlp_width, head_dim = hidden / p.heads, half = head_dim / 2;
  std::vector<Token> tokens;
  std::vector<int64_t> first_token(p.batch);
  for (int64_t row = 0; row < p.batch; ++row) {
    first_token[row] = tokens.size();
    for (int64_t column = 0; column < p.lengths[row]; ++column)
      tokens.push_back({row, column, p.positions[row] + column});
  }
  const int64_t rows = tokens.size();
  const Buffer x = make_buffer(rows * hidden), normed = make_buffer(rows * hidden), query = make_buffer(rows * hidden);
  const Buffer wide = make_buffer(rows * std::max(3 * hidden, 2 * mlp));
  const Buffer cosine = make_buffer(rows * half), sine = make_buffer(rows * half), logn = make_buffer(rows);

#pragma omp parallel for schedule(static) if (rows * hidden > kParallelValues)
  for (int64_t t = 0; t < rows; ++t) {
    const Token& token = tokens[t];
    std::memcpy(x.get() + t * hidden, floats(p.x, token.row * p.seq + token.column, hidden), hidden * sizeof(float));
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(token.slot) * p.inv_freq[token.row * half + i];
      cosine[t * half + i] = std::cos(angle);
      sine[t * half + i] = std::sin(angle);
    }
    const bool beyond = p.logn_length > 0 && token.slot + 1 > p.logn_length;
    logn[t] =
        beyond ? static_cast<float>(std::log(token.slot + 1.0) / std::log(static_cast<double>(p.logn_length))) : 1.0f;
  }

  const int64_t cache_row = int64_t{p.heads} * p.capacity * head_dim;
  for (int64_t l = 0; l < p.layers; ++l) {
    const auto weights = [&](const void* stack, const void* extra, int64_t rows, int64_t columns) {
      return layer_weights(p.format, stack, extra, l, rows, columns);
    };
    float* keys = floats(p.k_cache, l, p.batch * cache_row);
    float* values = floats(p.v_cache, l, p.batch * cache_row);
    rms_norm(x.get(), floats(p.ln_1_weight, l, hidden), p.epsilon, normed.get(), rows, hidden);
    linear(normed.get(), hidden, weights(p.qkv_weight, p.qkv_extra, 3 * hidden, hidden), wide.get(), 3 * hidden, rows,
           3 * hidden, hidden);
    add_bias(wide.get(), floats(p.qkv_bias, l, 3 * hidden), rows, 3 * hidden);
#pragma omp parallel for schedule(static) if (rows * hidden > kParallelValues)
    for (int64_t t = 0; t < rows; ++t) {
      const Token& token = tokens[t];
      const float* qkv = wide.get() + t * 3 * hidden;
      for (int64_t head = 0; head < p.heads; ++head) {
        const int64_t slot = token.row * cache_row + (head * p.capacity + token.slot) * head_dim;
        const float *c = cosine.get() + t * half, *s = sine.get() + t * half;
        rotate(qkv + head * head_dim, c, s, logn[t], query.get() + t * hidden + head * head_dim, half);
        rotate(qkv + hidden + head * head_dim, c, s, 1.0f, keys + slot, half);
        std::memcpy(values + slot, qkv + 2 * hidden + head * head_dim, head_dim * sizeof(float));
      }
    }

    for (int64_t row = 0; row < p.batch; ++row) {
      if (p.lengths[row] == 0) continue;
      Attention a{};
      a.query = query.get() + first_token[row] * hidden;
      a.key = keys + row * cache_row;
      a.value = values + row * cache_row;
      a.out = normed.get() + first_token[row] * hidden;
      a.batch = 1, a.heads = p.heads, a.head_dim = head_dim;
      a.query_head = a.out_head = head_dim, a.query_row = a.out_row = hidden;
      a.key_head = int64_t{p.capacity} * head_dim, a.key_row = head_dim;
      a.queries = p.lengths + row, a.past = p.positions + row, a.causal = true;
      a.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
      attention(a);
    }

    linear(normed.get(), hidden, weights(p.out_weight, p.out_extra, hidden, hidden), x.get(), hidden, rows, hidden,
           hidden, true);
    rms_norm(x.get(), floats(p.ln_2_weight, l, hidden), p.epsilon, normed.get(), rows, hidden);
    linear(normed.get(), hidden, weights(p.gate_up_weight, p.gate_up_extra, 2 * mlp, hidden), wide.get(), 2 * mlp, rows,
           2 * mlp, hidden);
    silu_mul(wide.get(), rows, mlp);
    linear(wide.get(), 2 * mlp, weights(p.down_weight, p.down_extra, hidden, mlp), x.get(), hidden, rows, hidden, mlp,
           true);
  }

  std::fill_n(floats(p.y), p.batch * p.seq * hidden, 0.0f);
  for (int64_t t = 0; t < rows; ++t)
    std::memcpy(floats(p.y, tokens[t].row * p.seq + tokens[t].column, hidden), x.get() + t * hidden,
                hidden * sizeof(float));
}

}  // namespace qwen_vl::cpu
