#include "ops/paddle/decode.h"

#include "ops/kernels/decode/tuning.h"
#include "ops/paddle/launch.h"

namespace qwen_vl {
namespace {

#ifdef PADDLE_WITH_CUDA
void run(const char* op, const paddle::Tensor& on, const QwenVlDecodeArgs& args) {
  const size_t bytes = qwen_vl_decode_workspace_bytes(&args);
  PD_CHECK(bytes > 0, op, " does not support this geometry on this card: use a larger batch or DEVICE=cpu");
  // The kernel's barrier counts on across calls of one geometry: every geometry has a workspace of its own.
  const std::string name = std::string(op) + " " + std::to_string(args.batch) + " " + std::to_string(args.layers) +
                           " " + std::to_string(args.hidden) + " " + std::to_string(args.mlp_width) + " " +
                           std::to_string(args.format);
  check_status(qwen_vl_decode_step(&args, private_workspace(on, bytes, name), bytes, on.stream()), op);
}
#endif

}  // namespace

bool is_decode_step(int64_t batch, int64_t columns) { return columns == 1 && batch <= qwen::kMaxRows; }

#ifdef PADDLE_WITH_CUDA
void decode_layers(const paddle::Tensor& on, const QwenVlDecoder& call) {
  QwenVlDecodeArgs args{};
  args.dtype = call.dtype, args.format = call.format;
  args.batch = args.cache_batch = call.batch;
  args.hidden = call.hidden, args.layers = call.layers, args.heads = call.heads;
  args.head_dim = call.hidden / call.heads, args.mlp_width = call.mlp_width;
  args.vocab = 1;  // no head
  args.cache_slots = call.capacity, args.seq_length = call.logn_length;
  args.epsilon = call.epsilon;
  args.ln_1_weight = call.ln_1_weight, args.qkv_weight = call.qkv_weight, args.qkv_bias = call.qkv_bias;
  args.out_weight = call.out_weight, args.ln_2_weight = call.ln_2_weight;
  args.gate_up_weight = call.gate_up_weight, args.down_weight = call.down_weight;
  args.inv_freq = call.inv_freq;
  args.positions = const_cast<int*>(call.positions);  // only read: the head moves them on
  args.k_cache = call.k_cache, args.v_cache = call.v_cache;
  args.hidden_in = call.x, args.hidden_out = call.y;
  run("qwen_vl_decoder", on, args);
}

void decode_head(const paddle::Tensor& on, const QwenVlLmHead& call) {
  QwenVlDecodeArgs args{};
  args.dtype = call.dtype, args.format = call.format;
  args.batch = args.cache_batch = call.batch;
  args.hidden = call.hidden;
  args.head_dim = 8, args.heads = call.hidden / 8, args.mlp_width = 8, args.cache_slots = 1;  // no layers
  args.vocab = call.vocab;
  args.generated_slots = call.generated_slots, args.stop_count = call.stop_count;
  args.epsilon = call.epsilon;
  args.ln_f_weight = call.ln_f_weight, args.lm_head_weight = call.lm_head_weight;
  args.stop_tokens = reinterpret_cast<const int64_t*>(call.stop_tokens);
  args.positions = call.positions;
  args.next_tokens = reinterpret_cast<int64_t*>(call.next_tokens);
  args.generated = reinterpret_cast<int64_t*>(call.generated);
  args.counts = call.counts, args.finished = call.finished;
  args.logits = call.logits;
  args.hidden_in = call.x;
  args.leave_choice = call.leave_choice;
  run("qwen_vl_lm_head", on, args);
}
#else
void decode_layers(const paddle::Tensor&, const QwenVlDecoder&) {
  PD_THROW("qwen_vl_decoder was built for the CPU only");
}
void decode_head(const paddle::Tensor&, const QwenVlLmHead&) { PD_THROW("qwen_vl_lm_head was built for the CPU only"); }
#endif

}  // namespace qwen_vl
