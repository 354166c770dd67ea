"""Loads a checkpoint of any format into the baseline, through the readers that conversion uses."""

import numpy as np
import torch

from bench.torch_model.embeddings import PromptEmbeddings
from export.checkpoint import open_checkpoint
from export.dtypes import out_of_range
from export.readers.gptq import QUANTISED
from export.stored import StoredTensor
from ops import formats

DECODER = ("transformer.h.", "transformer.ln_f.", "transformer.wte.", "lm_head.")   # names of the language model


def load_model(checkpoint_dir, attention="sdpa", dtype=torch.float32, device="cpu", rounded_to=None,
               quantised_to=None):
    """The baseline with the checkpoint's weights, in eval mode.

    `rounded_to` is a dtype that the weights are rounded to before they become `dtype`; `quantised_to` the name of a
    format of ops.formats that the matrices of the decoder are rounded to after that, and the head's if it takes both.
    One tensor at a time is in memory beside the weights; weights that the CPU takes as they are in the file stay there,
    mapped. UserError names what is no plain checkpoint, tensors that do not fit config.json, and those with values that
    are not finite or too large.
    """
    from bench.torch_model.model import QwenVLForCausalLM  # imports transformers, which other engines need as theirs

    checkpoint = open_checkpoint(checkpoint_dir)
    with torch.device("meta"):
        model = QwenVLForCausalLM(checkpoint.config, attention)
    state = {name: _tensor(stored, dtype, torch.device(device), rounded_to or dtype,
                           _format_of(name, stored, quantised_to)) for name, stored in checkpoint.tensors.items()}
    return _filled(model, state, model.transformer.visual)


def load_prompt_embeddings(checkpoint, dtype, device):
    """A checkpoint's vision tower and token table, as `load_model` loads them."""
    with torch.device("meta"):
        model = PromptEmbeddings(checkpoint.config, "sdpa")
    prefix = "transformer."
    state = {name.removeprefix(prefix): _tensor(stored, dtype, torch.device(device), dtype)
             for name, stored in checkpoint.tensors.items() if name.startswith((f"{prefix}visual.", f"{prefix}wte."))}
    return _filled(model, state, model.visual)


def language_tensors(checkpoint, dtype, device):
    """Yield (name, tensor) of a checkpoint's language model, as `load_model` loads them."""
    for name, stored in checkpoint.tensors.items():
        if name.startswith(DECODER):
            yield name, _tensor(stored, dtype, torch.device(device), dtype)


def _filled(model, state, visual):
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()
    visual.fold()
    return model


def _format_of(name, stored, quantised_to):
    """The Quantised format that a tensor is rounded to, None if it stays: one that is quantised already does."""
    format = formats.get(quantised_to) if quantised_to else None
    rounded = QUANTISED.search(name) or (name == "lm_head.weight" and format and not format.group)
    return format if format and rounded and isinstance(stored, StoredTensor) else None


def _tensor(stored, dtype, device, rounded_to, format=None):
    """A StoredTensor as a contiguous tensor on `device`, its values rounded to `rounded_to`, then to a Quantised
    format. Products of codes and scales are not rounded to more than `dtype`."""
    own = getattr(torch, stored.dtype)
    if not isinstance(stored, StoredTensor):
        rounded_to = dtype
    unchanged = format is None and device.type == "cpu" and own == rounded_to == dtype and stored.in_order
    array = stored.map() if unchanged else stored.read()
    if own == torch.bfloat16:  # NumPy has none: its bits come as uint16
        array = array.view(np.int16)
    values = torch.from_numpy(array).view(own).to(device)
    rounded = values.to(rounded_to)
    if torch.finfo(rounded_to).max < torch.finfo(own).max and rounded.isinf().any():
        raise out_of_range(stored.name, values.abs().max().item(), str(rounded_to).removeprefix("torch."))
    if format:
        rounded = torch.from_numpy(format.dequantise(format.quantise(rounded.float().cpu().numpy()))).to(device)
    return rounded.to(dtype).contiguous()
