// Binding of the decoder stack: checks and dispatch. The KV caches are updated in place.
#include <tuple>

#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/decode.h"
#include "ops/paddle/launch.h"
#include "ops/paddle/matrices.h"

namespace {

using paddle::Tensor;

std::vector<Tensor> forward(const Tensor& hidden, const Tensor& lengths, const Tensor& positions,
                            const Tensor& inv_freq, const Tensor& ln_1_weight, const Tensor& qkv_weight,
                            const Tensor& qkv_bias, const Tensor& out_weight, const Tensor& ln_2_weight,
                            const Tensor& gate_up_weight, const Tensor& down_weight,
                            const paddle::optional<std::vector<Tensor>>& extra, Tensor& k_cache, Tensor& v_cache,
                            int heads, int seq_length, float eps, std::string format) {
  qwen_vl::check_rank(hidden, "hidden", 3);
  qwen_vl::check_rank(gate_up_weight, "gate_up_weight", 3);
  qwen_vl::check_rank(k_cache, "k_cache", 5);
  const int64_t batch = hidden.shape()[0], columns = hidden.shape()[1], width = hidden.shape()[2];
  const qwen_vl::Values values(qkv_bias);
  qwen_vl::Matrices matrices(values, format, extra);
  const int64_t layers = gate_up_weight.shape()[0], mlp = gate_up_weight.shape()[1] / 2, slots = k_cache.shape()[3];
  PD_CHECK(heads > 0 && width % (2 * heads) == 0, "hidden size is no multiple of 2 * heads");
  QWEN_VL_SHAPE(lengths, batch);
  QWEN_VL_SHAPE(positions, batch);
  QWEN_VL_SHAPE(inv_freq, batch, width / heads / 2);
  QWEN_VL_SHAPE(ln_1_weight, layers, width);
  QWEN_VL_SHAPE(qkv_bias, layers, 3 * width);
  QWEN_VL_SHAPE(ln_2_weight, layers, width);
  QWEN_VL_SHAPE(k_cache, layers, batch, heads, slots, width / heads);
  QWEN_VL_SHAPE(v_cache, layers, batch, heads, slots, width / heads);
  PD_CHECK(columns <= slots, columns, " columns do not fit ", slots, " cache slots");

  Tensor out = paddle::empty({batch, columns, width}, hidden.dtype(), hidden.place());
  QwenVlDecoder p{};
  p.x = QWEN_VL_VALUES(values, hidden);
  p.lengths = QWEN_VL_DATA(const int, lengths);
  p.positions = QWEN_VL_DATA(const int, positions);
  p.inv_freq = QWEN_VL_DATA(const float, inv_freq);
  p.ln_1_weight = QWEN_VL_VALUES(values, ln_1_weight);
  std::tie(p.qkv_weight, p.qkv_extra) = QWEN_VL_MATRIX(matrices, qkv_weight, layers, 3 * width, width);
  p.qkv_bias = QWEN_VL_VALUES(values, qkv_bias);
  std::tie(p.out_weight, p.out_extra) = QWEN_VL_MATRIX(matrices, out_weight, layers, width, width);
  p.ln_2_weight = QWEN_VL_VALUES(values, ln_2_weight);
  std::tie(p.gate_up_weight, p.gate_up_extra) = QWEN_VL_MATRIX(matrices, gate_up_weight, layers, 2 * mlp, width);
  std::tie(p.down_weight, p.down_extra) = QWEN_VL_MATRIX(matrices, down_weight, layers, width, mlp);
  p.k_cache = QWEN_VL_VALUES(values, k_cache);
  p.v_cache = QWEN_VL_VALUES(values, v_cache);
  p.y = out.data();
  p.batch = batch, p.seq = columns, p.tokens = batch * columns;
  p.hidden = width, p.layers = layers, p.heads = heads, p.mlp_width = mlp, p.capacity = slots;
  p.logn_length = seq_length;
  p.epsilon = eps, p.dtype = values.dtype(), p.format = matrices.format();
  if (values.gpu() && qwen_vl::is_decode_step(batch, columns)) {
    qwen_vl::decode_layers(hidden, p);
    return {out};
  }
  if (values.gpu()) {
    QWEN_VL_LAUNCH("qwen_vl_decoder", hidden, p, qwen_vl_decoder_prefill);
    return {out};
  }
  for (int64_t row = 0; row < batch; ++row)
    PD_CHECK(p.lengths[row] >= 0 && p.lengths[row] <= columns && p.positions[row] >= 0 &&
                 p.positions[row] + p.lengths[row] <= slots,
             "row ", row, ": ", p.positions[row], " cached and ", p.lengths[row], " new tokens do not fit ", slots,
             " cache slots and ", columns, " columns");
  qwen_vl::cpu::decoder(p);
  return {out};
}

std::vector<std::vector<int64_t>> infer_shape(const std::vector<int64_t>& hidden) { return {hidden}; }

std::vector<paddle::DataType> infer_dtype(const paddle::DataType& hidden) { return {hidden}; }

}  // namespace

PD_BUILD_OP(qwen_vl_decoder)
    .Inputs({"hidden", "lengths", "positions", "inv_freq", "ln_1_weight", "qkv_weight", "qkv_bias", "out_weight",
             "ln_2_weight", "gate_up_weight", "down_weight", paddle::Optional(paddle::Vec("extra")), "k_cache",
             "v_cache"})
    .Outputs({"out", "k_cache_out", "v_cache_out"})
    .Attrs({"heads: int", "seq_length: int", "eps: float", "format: std::string"})
    .SetInplaceMap({{"k_cache", "k_cache_out"}, {"v_cache", "v_cache_out"}})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(infer_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(infer_dtype));
