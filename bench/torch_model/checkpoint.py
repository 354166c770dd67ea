"""A checkpoint of any format as torch's tensors, through the readers that conversion uses."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from bench.torch_model.embeddings import PromptEmbeddings
from export.dtypes import out_of_range
from export.readers.quantised import QUANTISED
from export.stored import StoredTensor
from ops import formats

AHEAD = 4   # tensors that are read while another one goes to the device
DECODER = ("transformer.h.", "transformer.ln_f.", "transformer.wte.", "lm_head.")   # names of the language model


def load_prompt_embeddings(checkpoint, dtype, device):
    """A checkpoint's vision tower and token table, as bench.torch_model.model.load_model loads them."""
    with torch.device("meta"):
        model = PromptEmbeddings(checkpoint.config, "sdpa")
    prefix = "transformer."
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors(
        checkpoint, (f"{prefix}visual.", f"{prefix}wte."), dtype, torch.device(device), dtype)}
    return filled(model, state, model.visual)


def language_tensors(checkpoint, dtype, device):
    """Yield (name, tensor) of a checkpoint's language model, as bench.torch_model.model.load_model loads them."""
    return tensors(checkpoint, DECODER, dtype, torch.device(device), dtype)


def tensors(checkpoint, prefixes, dtype, device, rounded_to, quantised_to=None):
    """Yield (name, tensor) of those whose names begin with one of `prefixes`; threads read the files ahead."""
    def made(name, stored, array):
        format = _format_of(name, stored, quantised_to)
        return name, _tensor(stored, array.result(), dtype, device, rounded_to, format)

    waiting = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for name, stored in checkpoint.tensors.items():
            if name.startswith(prefixes):
                waiting.append((name, stored, pool.submit(_array, stored, dtype, device, rounded_to)))
                if len(waiting) > AHEAD:
                    yield made(*waiting.popleft())
        for read in waiting:
            yield made(*read)


def filled(model, state, visual):
    """The model, made on no device, with its weights, in eval mode."""
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()
    visual.fold()
    return model


def _format_of(name, stored, quantised_to):
    """The Quantised format that a tensor is rounded to, None if it stays: one that is quantised already does."""
    if not quantised_to or not isinstance(stored, StoredTensor):
        return None
    format = formats.get(quantised_to)
    return format if QUANTISED.search(name) or name == "lm_head.weight" and format.rounds_head else None


def _array(stored, dtype, device, rounded_to):
    """A StoredTensor's numbers as NumPy has them: in the file where the CPU takes them as they are."""
    unchanged = device.type == "cpu" and getattr(torch, stored.dtype) == rounded_to == dtype and stored.in_order
    return stored.map() if unchanged else stored.read()


def _tensor(stored, array, dtype, device, rounded_to, format=None):
    """The numbers of a StoredTensor as a contiguous tensor on `device`, rounded to `rounded_to`, then to a Quantised
    format. Products of codes and scales are rounded to `dtype` alone."""
    own = getattr(torch, stored.dtype)
    if not isinstance(stored, StoredTensor):
        rounded_to = dtype
    if own == torch.bfloat16:  # NumPy has none: its bits come as uint16
        array = array.view(np.int16)
    values = torch.from_numpy(array).view(own).to(device)
    rounded = values.to(rounded_to)
    if torch.finfo(rounded_to).max < torch.finfo(own).max and rounded.isinf().any():
        raise out_of_range(stored.name, values.abs().max().item(), str(rounded_to).removeprefix("torch."))
    if format:
        rounded = torch.from_numpy(format.dequantise(format.quantise(rounded.float().cpu().numpy()))).to(device)
    return rounded.to(dtype).contiguous()
