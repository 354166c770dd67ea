"""Weights in fewer bits by torchao, which loses some of them: for arms in a table of their own."""

from torch import nn

from core.errors import NotHere

GROUP = 128   # weights that share a scale in 4 bits
MATRICES = ("transformer.h.", "lm_head")   # what a decode step reads


def quantise(model, bits):
    """Put the matrices of a model's decoder and head into 8 or 4 bits, in place; NotHere without torchao.

    model: a QwenVLForCausalLM."""
    try:
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ModuleNotFoundError as e:
        raise NotHere(f"needs torchao, and this interpreter has no {e.name}: pip install torchao==0.17.0 beside torch, "
                      "into the environment of TORCH_PYTHON=") from None
    # The kernel that torch itself has for 4 bits takes its own order of the weights.
    config = (Int8WeightOnlyConfig(version=2, set_inductor_config=False) if bits == 8 else
              Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d",
                                   set_inductor_config=False))
    quantize_(model, config, filter_fn=lambda module, name: isinstance(module, nn.Linear) and name.startswith(MATRICES))


def step_bytes(model):
    """Bytes of everything that a decode step reads of the weights, scales included."""
    return sum(_bytes(parameter) for part in (model.transformer.h, model.transformer.ln_f, model.lm_head)
               for parameter in part.parameters())


def _bytes(tensor):
    if hasattr(tensor, "__tensor_flatten__"):   # a tensor of tensors
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in names)
    return tensor.nbytes
