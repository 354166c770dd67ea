// The halves of a decode step of few rows, each one kernel that streams its weights at memory speed (GPU only).
#pragma once
#include "ops/kernels/prefill/decoder.h"
#include "ops/kernels/sampling/lm_head.h"
#include "paddle/extension.h"

namespace qwen_vl {

// Whether a call is one that these take: one token a row, few rows.
bool is_decode_step(int64_t batch, int64_t columns);

// What qwen_vl_decoder_prefill and qwen_vl_lm_head do, for such a call.
void decode_layers(const paddle::Tensor& on, const QwenVlDecoder& call);
void decode_head(const paddle::Tensor& on, const QwenVlLmHead& call);

}  // namespace qwen_vl
