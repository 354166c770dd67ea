"""Load the published checkpoint (safetensors, one file or sharded) into the baseline, as it is."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from bench.torch_model.model import QwenVLForCausalLM
from core.config import ModelConfig
from core.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def shard_paths(checkpoint_dir):
    """The checkpoint's safetensors files; raises UserError when one is missing."""
    folder = Path(checkpoint_dir)
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{folder / INDEX} is no safetensors index: fetch the checkpoint again") from None
        paths = [folder / Path(name).name for name in names]
    else:
        paths = [folder / SINGLE]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"no {', '.join(missing)} in {folder}: the torch baseline reads safetensors checkpoints")
    return paths


def load_model(checkpoint_dir, attention="sdpa", dtype=torch.float32, device="cpu", rounded_to=None):
    """The baseline with the checkpoint's weights, in eval mode; peak memory is one file's pages above the weights.

    `rounded_to` is a dtype that the weights are rounded to before they become `dtype`.
    Every key must fit (strict): UserError names what is missing, unexpected or of another shape.
    """
    paths = shard_paths(checkpoint_dir)
    with torch.device("meta"):
        model = QwenVLForCausalLM(ModelConfig.load(checkpoint_dir), attention)
    state = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt", device=str(device)) as f:
                state.update((key, f.get_tensor(key).to(rounded_to or dtype).to(dtype)) for key in f.keys())  # noqa: SIM118
        except SafetensorError as e:
            raise UserError(f"{path} is not a whole safetensors file ({e}): fetch it again") from None
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as e:
        raise UserError(f"{checkpoint_dir} does not fit its config.json: {e}") from None
    model.requires_grad_(False).eval()
    model.transformer.visual.fold()
    return model
