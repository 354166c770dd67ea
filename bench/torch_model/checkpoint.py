"""Loads a checkpoint of any format into the baseline, through the readers that conversion uses."""

import numpy as np
import torch

from bench.torch_model.model import QwenVLForCausalLM
from export.checkpoint import open_checkpoint
from export.dtypes import out_of_range


def load_model(checkpoint_dir, attention="sdpa", dtype=torch.float32, device="cpu", rounded_to=None):
    """The baseline with the checkpoint's weights, in eval mode.

    `rounded_to` is a dtype that the weights are rounded to before they become `dtype`. One tensor at a time is in
    memory beside the weights; weights that the CPU takes as they are in the file stay there, mapped. UserError names
    what is no plain checkpoint, tensors that do not fit config.json, and those with values that are not finite or too
    large.
    """
    checkpoint = open_checkpoint(checkpoint_dir)
    with torch.device("meta"):
        model = QwenVLForCausalLM(checkpoint.config, attention)
    state = {name: _tensor(stored, dtype, torch.device(device), rounded_to or dtype)
             for name, stored in checkpoint.tensors.items()}
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()
    model.transformer.visual.fold()
    return model


def _tensor(stored, dtype, device, rounded_to):
    """A StoredTensor as a contiguous tensor on `device`, its values rounded to `rounded_to`."""
    own = getattr(torch, stored.dtype)
    unchanged = device.type == "cpu" and own == rounded_to == dtype and stored.in_order
    array = stored.map() if unchanged else stored.read()
    if own == torch.bfloat16:  # NumPy has none: its bits come as uint16
        array = array.view(np.int16)
    values = torch.from_numpy(array).view(own).to(device)
    rounded = values.to(rounded_to)
    if torch.finfo(rounded_to).max < torch.finfo(own).max and rounded.isinf().any():
        raise out_of_range(stored.name, values.abs().max().item(), str(rounded_to).removeprefix("torch."))
    return rounded.to(dtype).contiguous()
