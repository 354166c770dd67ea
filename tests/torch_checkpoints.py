"""Loads checkpoints into the torch baseline and prints what an image and a prompt give, or the error, as JSON.

{"features", "logits", "tokens"} of each: some features, the last logits, eight greedy tokens.

A program of its own, as torch_golden.py is. Arguments: dtype and checkpoint folder, any number of pairs.
"""

import json
import sys

import torch

from bench.torch_model.model import load_model
from core.errors import UserError


def results(dtype, folder):
    try:
        model = load_model(folder, "sdpa", getattr(torch, dtype))
    except UserError as e:
        return {"error": str(e)}
    features = model.encode(torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(1)))
    start = model.geometry.image_start_id
    ids = torch.tensor([[3, 5, start, *[start + 2] * 256, start + 1, 8, 13]])
    with torch.inference_mode():
        logits = model(ids, image_features=features).logits
    assert logits.dtype == features.dtype == getattr(torch, dtype)
    tokens = model.generate(ids, attention_mask=torch.ones_like(ids), image_features=features, do_sample=False,
                            max_new_tokens=8)
    return {"features": features[0, ::16, ::16].float().flatten().tolist(), "logits": logits[0, -1].float().tolist(),
            "tokens": tokens[0, ids.shape[1]:].tolist()}


if __name__ == "__main__":
    print(json.dumps([results(*pair) for pair in zip(sys.argv[1::2], sys.argv[2::2])]))
