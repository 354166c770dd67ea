"""RMSNorm and LayerNorm as paddlenlp's models call them: fused_rms_norm(x, scale, epsilon) -> y, invvar and
fused_layer_norm(x, scale, bias, epsilon) -> y, mean, invvar; forward alone, fp32, fp16 and bf16."""

import paddlenlp_ops  # noqa: F401  registers the operators
from paddlenlp_ops.generated import fused_layer_norm, fused_rms_norm  # noqa: F401
