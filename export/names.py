"""The tensors of a Qwen-VL checkpoint: their published names, shapes and layouts in both frameworks.

The canonical form is Hugging Face's: its names, Linear weights [out, in]. Paddle stores Linear weights [in, out]
and names the vision tower `visual.` (encoder `visual.vit.`); the language model is `transformer.` in the published
file, `transformer.llm.` in newer ones, `qwen.` after conversion.
"""

import re
from dataclasses import dataclass

from core.config import QUERIES

POSITIONS = 256  # rows of the encoder's position table, a 16 x 16 grid
KV_PROJ = "transformer.visual.attn_pool.kv_proj.weight"
SHOWN = 12  # names listed per kind of mismatch
BUFFERS = re.compile(r"(^|\.)(rotary_emb\.\w+|attn\.(bias|masked_bias)|logn_tensor|registered_causal_mask)$")


@dataclass(frozen=True)
class Parameter:
    """One tensor: Hugging Face name and shape, Paddle name, and whether Paddle stores it transposed."""

    name: str
    shape: tuple
    linear: bool = False

    @property
    def paddle_name(self):
        """The name after conversion."""
        name = self.name
        for prefix, converted in (("transformer.visual.attn_pool.", "visual.attn_pool."),
                                  ("transformer.visual.ln_post.", "visual.ln_post."),
                                  ("transformer.visual.proj", "visual.proj"),
                                  ("transformer.visual.", "visual.vit."), ("transformer.", "qwen.")):
            if name.startswith(prefix):
                return converted + name.removeprefix(prefix)
        return name

    @property
    def paddle_shape(self):
        return self.shape[::-1] if self.linear else self.shape


def parameters(config):
    """Every tensor that a checkpoint of this geometry holds, in the order of the model."""
    return [*_language(config), *_vision(config)]


def _language(config):
    hidden, mlp = config.hidden_size, config.mlp_width
    yield Parameter("transformer.wte.weight", (config.vocab_size, hidden))
    for layer in range(config.num_hidden_layers):
        prefix = f"transformer.h.{layer}."
        yield Parameter(prefix + "ln_1.weight", (hidden,))
        yield Parameter(prefix + "attn.c_attn.weight", (3 * hidden, hidden), linear=True)
        yield Parameter(prefix + "attn.c_attn.bias", (3 * hidden,))
        yield Parameter(prefix + "attn.c_proj.weight", (hidden, hidden), linear=True)
        yield Parameter(prefix + "ln_2.weight", (hidden,))
        yield Parameter(prefix + "mlp.w1.weight", (mlp, hidden), linear=True)
        yield Parameter(prefix + "mlp.w2.weight", (mlp, hidden), linear=True)
        yield Parameter(prefix + "mlp.c_proj.weight", (hidden, mlp), linear=True)
    yield Parameter("transformer.ln_f.weight", (hidden,))
    yield Parameter("lm_head.weight", (config.vocab_size, hidden), linear=True)


def _norm(name, width):
    yield Parameter(name + ".weight", (width,))
    yield Parameter(name + ".bias", (width,))


def _linear(name, outputs, inputs):
    yield Parameter(name + ".weight", (outputs, inputs), linear=True)
    yield Parameter(name + ".bias", (outputs,))


def _vision(config):
    v = config.visual
    width, e = v.width, v.output_dim
    yield Parameter("transformer.visual.conv1.weight", (width, 3, v.patch_size, v.patch_size))
    yield Parameter("transformer.visual.positional_embedding", (POSITIONS, width))
    yield from _norm("transformer.visual.ln_pre", width)
    for layer in range(v.layers):
        prefix = f"transformer.visual.transformer.resblocks.{layer}."
        yield from _norm(prefix + "ln_1", width)
        yield from _linear(prefix + "attn.in_proj", 3 * width, width)
        yield from _linear(prefix + "attn.out_proj", width, width)
        yield from _norm(prefix + "ln_2", width)
        yield from _linear(prefix + "mlp.c_fc", v.mlp_width, width)
        yield from _linear(prefix + "mlp.c_proj", width, v.mlp_width)
    pool = "transformer.visual.attn_pool."
    yield Parameter(pool + "query", (QUERIES, e))
    yield Parameter(pool + "pos_embed", (QUERIES, e))
    if width != e:  # an identity in the published model
        yield Parameter(KV_PROJ, (e, width), linear=True)
    yield from _norm(pool + "ln_q", e)
    yield from _norm(pool + "ln_kv", e)
    yield Parameter(pool + "attn.in_proj_weight", (3 * e, e), linear=True)
    yield Parameter(pool + "attn.in_proj_bias", (3 * e,))
    yield from _linear(pool + "attn.out_proj", e, e)
    yield from _norm("transformer.visual.ln_post", e)
    yield Parameter("transformer.visual.proj", (e, e))


def converted_name(paddle_name):
    """A Paddle name as it is after conversion: `transformer.` and `transformer.llm.` become `qwen.`."""
    for prefix in ("transformer.llm.", "transformer."):
        if paddle_name.startswith(prefix):
            return "qwen." + paddle_name.removeprefix(prefix)
    return paddle_name


def listed(names):
    """The first names of a list, safe to print, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    # ascii(): a name may hold what would steer a terminal
    return ", ".join(ascii(text[:200])[1:-1] for text in names[:SHOWN]) + more
