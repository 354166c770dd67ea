#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/paddle/cpu/attention.h"
#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {
namespace {

// One row per patch with (channel, row, column) columns, so that the patch convolution is a matrix product.
void unfold_patches(const QwenVlVisionEncoder& p, int64_t grid, float* rows) {
  const int64_t side = p.patch_size, size = p.image_size, values = 3 * side * side;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < p.images * grid * grid; ++r) {
    const int64_t image = r / (grid * grid), y = r / grid % grid, x = r % grid;
    float* to = rows + r * p.patch_columns;
    for (int64_t channel = 0; channel < 3; ++channel)
      for (int64_t line = 0; line < side; ++line, to += side)
        std::memcpy(to, p.pixels + ((image * 3 + channel) * size + y * side + line) * size + x * side,
                    side * sizeof(float));
    std::fill_n(to, p.patch_columns - values, 0.0f);
  }
}

}  // namespace

void vision_encoder(const QwenVlVisionEncoder& p) {
  const int64_t grid = p.image_size / p.patch_size, patches = grid * grid, rows = p.images * patches;
  const int64_t width = p.width, mlp = p.mlp_width, head_dim = width / p.heads;
  const Buffer normed = make_buffer(rows * width), mixed = make_buffer(rows * width);
  const Buffer wide = make_buffer(rows * std::max<int64_t>({3 * width, mlp, p.patch_columns}));
  float* x = floats(p.y);

  unfold_patches(p, grid, wide.get());
  linear(wide.get(), p.patch_columns, floats(p.patch_weight), p.patch_columns, normed.get(), width, rows, width,
         p.patch_columns);
  for (int64_t image = 0; image < p.images; ++image)
    add_bias(normed.get() + image * patches * width, floats(p.position), 1, patches * width);
  layer_norm(normed.get(), floats(p.ln_pre_weight), floats(p.ln_pre_bias), p.epsilon, x, rows, width);

  const std::vector<int32_t> queries(p.images, static_cast<int32_t>(patches));
  for (int64_t l = 0; l < p.layers; ++l) {
    layer_norm(x, floats(p.ln_1_weight, l, width), floats(p.ln_1_bias, l, width), p.epsilon, normed.get(), rows, width);
    linear(normed.get(), width, floats(p.qkv_weight, l, 3 * width * width), width, wide.get(), 3 * width, rows,
           3 * width, width);
    add_bias(wide.get(), floats(p.qkv_bias, l, 3 * width), rows, 3 * width);

    Attention a{};
    a.query = wide.get();
    a.key = wide.get() + width;
    a.value = wide.get() + 2 * width;
    a.out = mixed.get();
    a.batch = p.images, a.heads = p.heads, a.head_dim = head_dim, a.keys = patches;
    a.query_batch = a.key_batch = patches * 3 * width;
    a.query_head = a.key_head = a.out_head = head_dim;
    a.query_row = a.key_row = 3 * width;
    a.out_batch = patches * width, a.out_row = width;
    a.queries = queries.data();
    a.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    attention(a);

    add_bias(x, floats(p.out_bias, l, width), rows, width);
    linear(mixed.get(), width, floats(p.out_weight, l, width * width), width, x, width, rows, width, width, true);
    layer_norm(x, floats(p.ln_2_weight, l, width), floats(p.ln_2_bias, l, width), p.epsilon, normed.get(), rows, width);
    linear(normed.get(), width, floats(p.fc1_weight, l, mlp * width), width, wide.get(), mlp, rows, mlp, width);
    bias_gelu(wide.get(), floats(p.fc1_bias, l, mlp), rows, mlp);
    add_bias(x, floats(p.fc2_bias, l, width), rows, width);
    linear(wide.get(), mlp, floats(p.fc2_weight, l, width * mlp), mlp, x, width, rows, width, mlp, true);
  }
}

}  // namespace qwen_vl::cpu
