"""Loads a checkpoint of any format into the baseline, through the readers that conversion uses."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from bench.torch_model.embeddings import PromptEmbeddings
from export.checkpoint import open_checkpoint
from export.dtypes import out_of_range

AHEAD = 4   # tensors that are read while another one goes to the device
DECODER = ("transformer.h.", "transformer.ln_f.", "transformer.wte.", "lm_head.")   # names of the language model


def load_model(checkpoint_dir, attention="sdpa", dtype=torch.float32, device="cpu", rounded_to=None):
    """The baseline with the checkpoint's weights, in eval mode.

    `rounded_to` is a dtype that the weights are rounded to before they become `dtype`. A few tensors, AHEAD, are in
    memory beside the weights; weights that the CPU takes as they are in the file stay there, mapped. UserError names
    what is no plain checkpoint, tensors that do not fit config.json, and those with values that are not finite or too
    large.
    """
    from bench.torch_model.model import QwenVLForCausalLM  # imports transformers, which other engines need as theirs

    checkpoint = open_checkpoint(checkpoint_dir)
    with torch.device("meta"):
        model = QwenVLForCausalLM(checkpoint.config, attention)
    state = dict(_tensors(checkpoint, "", dtype, torch.device(device), rounded_to or dtype))
    return _filled(model, state, model.transformer.visual)


def load_prompt_embeddings(checkpoint, dtype, device):
    """A checkpoint's vision tower and token table, as `load_model` loads them."""
    with torch.device("meta"):
        model = PromptEmbeddings(checkpoint.config, "sdpa")
    prefix = "transformer."
    state = {name.removeprefix(prefix): tensor for name, tensor in _tensors(
        checkpoint, (f"{prefix}visual.", f"{prefix}wte."), dtype, torch.device(device), dtype)}
    return _filled(model, state, model.visual)


def language_tensors(checkpoint, dtype, device):
    """Yield (name, tensor) of a checkpoint's language model, as `load_model` loads them."""
    return _tensors(checkpoint, DECODER, dtype, torch.device(device), dtype)


def _tensors(checkpoint, prefixes, dtype, device, rounded_to):
    """Yield (name, tensor) of those whose names begin with one of `prefixes`; threads read the files ahead."""
    waiting = deque()
    with ThreadPoolExecutor(AHEAD) as pool:
        for name, stored in checkpoint.tensors.items():
            if name.startswith(prefixes):
                waiting.append((name, stored, pool.submit(_array, stored, dtype, device, rounded_to)))
                if len(waiting) > AHEAD:
                    name, stored, array = waiting.popleft()
                    yield name, _tensor(stored, array.result(), dtype, device, rounded_to)
        for name, stored, array in waiting:
            yield name, _tensor(stored, array.result(), dtype, device, rounded_to)


def _filled(model, state, visual):
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()
    visual.fold()
    return model


def _array(stored, dtype, device, rounded_to):
    """A StoredTensor's numbers as NumPy has them: in the file where the CPU takes them as they are."""
    unchanged = device.type == "cpu" and getattr(torch, stored.dtype) == rounded_to == dtype and stored.in_order
    return stored.map() if unchanged else stored.read()


def _tensor(stored, array, dtype, device, rounded_to):
    """The numbers of a StoredTensor as a contiguous tensor on `device`, rounded to `rounded_to`."""
    own = getattr(torch, stored.dtype)
    if own == torch.bfloat16:  # NumPy has none: its bits come as uint16
        array = array.view(np.int16)
    values = torch.from_numpy(array).view(own).to(device)
    rounded = values.to(rounded_to)
    if torch.finfo(rounded_to).max < torch.finfo(own).max and rounded.isinf().any():
        raise out_of_range(stored.name, values.abs().max().item(), str(rounded_to).removeprefix("torch."))
    return rounded.to(dtype).contiguous()
