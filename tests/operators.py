"""What the operators' tests share: small random weights, and both implementations on eager tensors."""

import dataclasses

import numpy as np

from core.config import ModelConfig, VisionConfig
from ops import functional, library
from ops.framework import import_paddle
from ops.weights import STAGES

paddle = import_paddle()
library.load()

CLOSE = dict(rtol=2e-5, atol=2e-5)


def config(**changes):
    """A geometry whose sizes are no multiples of the kernels' block sizes."""
    visual = VisionConfig(image_size=70, patch_size=10, width=48, layers=2, heads=3, mlp_ratio=2.4, output_dim=128,
                          image_start_id=20)
    tiny = ModelConfig(vocab_size=91, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, kv_channels=32,
                       intermediate_size=176, seq_length=16, max_position_embeddings=512, layer_norm_epsilon=1e-6,
                       rotary_emb_base=10000.0, use_dynamic_ntk=True, use_logn_attn=True, visual=visual)
    return dataclasses.replace(tiny, **changes)


def random_weights(operator, geometry, seed=0):
    """Weights of one operator as eager tensors, in its roles' order."""
    rng = np.random.default_rng(seed)
    roles = {role: shape for stage in STAGES.values() for name, table in stage.items() if name == operator
             for role, shape in table(geometry).items()}
    return {role: tensor(rng.standard_normal(shape) / np.sqrt(shape[-1]) + (0.5 if "ln" in role else 0.0))
            for role, shape in roles.items()}


def tensor(array, dtype="float32"):
    """A Paddle tensor on the CPU."""
    return paddle.to_tensor(np.asarray(array, dtype))


def both(function, *args, **kwargs):
    """Results of the fused and of the native implementation as numpy arrays."""
    return [getattr(functional, function)(*args, **kwargs, impl=impl).numpy() for impl in ("fused", "native")]
