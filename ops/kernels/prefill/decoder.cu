#include "ops/kernels/prefill/decoder.h"

#include <algorithm>
#include <cmath>

#include "ops/formats/registry.h"
#include "ops/kernels/attention/flash.h"
#include "ops/kernels/common/arguments.h"
#include "ops/kernels/common/norm.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/prefill/rope_cache.h"
#include "ops/kernels/prefill/rows.h"
#include "ops/kernels/prefill/tuning.h"
#include "ops/kernels/products/gemm.h"

namespace {

using qwen::kMlpRows;

long long mlp_rows(long long rows) {
  const long long blocks = std::max(1ll, (rows + kMlpRows - 1) / kMlpRows);
  return ((rows + blocks - 1) / blocks + 15) / 16 * 16;
}

// One of a layer's matrix products, without addresses.
QwenVlGemm product_of(const QwenVlDecoder& a, long long in, long long out, long long tokens, int activation) {
  QwenVlGemm g = qwen::layer_product(tokens, in, out, a.dtype, activation, a.layers);
  g.format = a.format;
  return g;
}

struct Buffers {
  void *packed, *normed, *qkv, *gate_up, *product, *unpacked;
  int* offsets;
  int2* places;
  float2* table;
  size_t bytes;

  Buffers(const QwenVlDecoder& a, void* workspace) {
    const size_t rows = a.tokens;
    qwen::Slices slices(workspace);
    offsets = slices.take<int>(a.batch * sizeof(int));
    places = slices.take<int2>(rows * sizeof(int2));
    table = slices.take<float2>(rows * (a.hidden / a.heads / 2) * sizeof(float2));
    packed = a.batch == 1 ? nullptr : slices.take(rows * a.hidden * 2);
    normed = slices.take(rows * a.hidden * 2);
    const size_t qkv_bytes = rows * a.hidden * 6, product_bytes = mlp_rows(rows) * a.mlp_width * 2;
    // The MLP begins where attention has done with q, k and v. A product's bytes are a multiple of 256.
    qkv = gate_up = slices.take(std::max(qkv_bytes, 3 * product_bytes));
    product = workspace ? static_cast<char*>(gate_up) + 2 * product_bytes : nullptr;
    unpacked = slices.take(unpacked_bytes(a));
    bytes = slices.used();
  }

  static size_t unpacked_bytes(const QwenVlDecoder& a) {
    const long long hidden = a.hidden, mlp = a.mlp_width, rows = a.tokens;
    size_t most = 0;
    for (const QwenVlGemm& g : {product_of(a, hidden, 3 * hidden, rows, qwen::kNoActivation),
                                product_of(a, hidden, hidden, rows, qwen::kNoActivation),
                                product_of(a, hidden, 2 * mlp, mlp_rows(rows), qwen::kSiluMul),
                                product_of(a, mlp, hidden, mlp_rows(rows), qwen::kNoActivation)})
      most = std::max(most, qwen_vl_gemm_unpacked_bytes(&g));
    return most;
  }
};

}  // namespace

extern "C" size_t qwen_vl_decoder_prefill_workspace(const QwenVlDecoder* arguments) {
  return Buffers(*arguments, nullptr).bytes;
}

extern "C" int qwen_vl_decoder_prefill(QwenVlContext* context, const QwenVlDecoder* arguments, void* workspace,
                                       size_t workspace_bytes, cudaStream_t stream) {
  const QwenVlDecoder& a = *arguments;
  const Buffers buffers(a, workspace);
  if (workspace_bytes < buffers.bytes) return QWEN_VL_WORKSPACE_SMALL;
  if (a.tokens == 0) return QWEN_VL_OK;
  const long long hidden = a.hidden, mlp = a.mlp_width, rows = a.tokens;
  const int head_dim = a.hidden / a.heads;
  const long long layer_cache = static_cast<long long>(a.batch) * a.heads * a.capacity * head_dim;

  auto gemm = [&](const void* weight, const void* bias, const void* x, long long in, void* y, long long out,
                  long long tokens, bool residual, int layer, int activation = qwen::kNoActivation) {
    QwenVlGemm g = product_of(a, in, out, tokens, activation);
    g.weight = static_cast<const char*>(weight) + layer * qwen::format_bytes(a.format, out, in);
    g.bias = bias ? qwen::element(bias, layer * out) : nullptr;
    g.x = x;
    g.y = y;
    g.addend = residual ? y : nullptr;
    g.wide = buffers.gate_up;
    g.unpacked = buffers.unpacked;
    g.layer = layer;
    return qwen_vl_gemm(context, &g, stream);
  };

  QWEN_VL_TRY(qwen_vl_pack_index(a.lengths, buffers.offsets, buffers.places, a.batch, a.tokens, stream));
  QWEN_VL_TRY(
      qwen_vl_rope_table(buffers.places, a.positions, a.inv_freq, buffers.table, a.tokens, head_dim / 2, stream));
  // One row is packed as it is, so the residual stream then lives in y.
  void* residual = a.batch == 1 ? a.y : buffers.packed;
  if (a.batch > 1) QWEN_VL_TRY(qwen_vl_pack_rows(a.x, buffers.places, residual, a.tokens, a.seq, a.hidden, stream));
  else if (a.x != a.y) QWEN_VL_TRY(cudaMemcpyAsync(a.y, a.x, rows * hidden * 2, cudaMemcpyDeviceToDevice, stream));

  QwenVlRopeCache rope{};
  rope.qkv = buffers.qkv;
  rope.places = buffers.places;
  rope.positions = a.positions;
  rope.table = buffers.table;
  rope.tokens = a.tokens;
  rope.heads = a.heads;
  rope.head_dim = head_dim;
  rope.capacity = a.capacity;
  rope.logn_length = a.logn_length;
  rope.dtype = a.dtype;

  QwenVlAttention attention{};
  attention.q = buffers.qkv;
  attention.out = buffers.normed;
  attention.query_row = 3 * hidden;
  attention.query_head = attention.out_head = head_dim;
  attention.key_row = head_dim;
  attention.key_head = static_cast<long long>(a.capacity) * head_dim;
  attention.key_group = a.heads * attention.key_head;
  attention.out_row = hidden;
  attention.lengths = a.lengths;
  attention.positions = a.positions;
  attention.offsets = buffers.offsets;
  attention.groups = a.batch;
  attention.heads = a.heads;
  attention.head_dim = head_dim;
  attention.query_rows = a.seq;
  attention.key_rows = a.capacity;
  attention.scale = 1.f / std::sqrt(static_cast<float>(head_dim));
  attention.dtype = a.dtype;

  for (int layer = 0; layer < a.layers; ++layer) {
    QWEN_VL_TRY(qwen_vl_rms_norm(residual, qwen::element(a.ln_1_weight, layer * hidden), buffers.normed, rows, a.hidden,
                                 a.epsilon, a.dtype, stream));
    QWEN_VL_TRY(gemm(a.qkv_weight, a.qkv_bias, buffers.normed, hidden, buffers.qkv, 3 * hidden, rows, false, layer));
    rope.k_cache = qwen::element(a.k_cache, layer * layer_cache);
    rope.v_cache = qwen::element(a.v_cache, layer * layer_cache);
    QWEN_VL_TRY(qwen_vl_rope_cache(&rope, stream));
    attention.k = rope.k_cache;
    attention.v = rope.v_cache;
    QWEN_VL_TRY(qwen_vl_attention(&attention, stream));
    QWEN_VL_TRY(gemm(a.out_weight, nullptr, buffers.normed, hidden, residual, hidden, rows, true, layer));
    QWEN_VL_TRY(qwen_vl_rms_norm(residual, qwen::element(a.ln_2_weight, layer * hidden), buffers.normed, rows, a.hidden,
                                 a.epsilon, a.dtype, stream));
    for (long long first = 0, block = mlp_rows(rows); first < rows; first += block) {
      const long long count = std::min(block, rows - first);
      QWEN_VL_TRY(gemm(a.gate_up_weight, nullptr, qwen::element(buffers.normed, first * hidden), hidden,
                       buffers.product, 2 * mlp, count, false, layer, qwen::kSiluMul));
      QWEN_VL_TRY(gemm(a.down_weight, nullptr, buffers.product, mlp, qwen::element(residual, first * hidden), hidden,
                       count, true, layer));
    }
  }
  if (a.batch > 1) QWEN_VL_TRY(qwen_vl_unpack_rows(residual, buffers.places, a.y, a.tokens, a.seq, a.hidden, stream));
  return QWEN_VL_OK;
}
