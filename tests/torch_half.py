"""Loads a checkpoint into the torch baseline, whole or sharded, and prints what an image and a prompt give as JSON.

A program of its own, as torch_golden.py is. Arguments: checkpoint folder, dtype.
"""

import json
import sys

import torch

from bench.torch_model.checkpoint import load_model
from core.errors import run_cli


def main():
    model = load_model(sys.argv[1], "sdpa", getattr(torch, sys.argv[2]))
    generator = torch.Generator().manual_seed(1)
    features = model.encode(torch.randn(1, 3, 448, 448, generator=generator))
    start = model.geometry.image_start_id
    ids = torch.tensor([[3, 5, start, *[start + 2] * 256, start + 1, 8, 13]])
    with torch.inference_mode():
        logits = model(ids, image_features=features).logits
    assert logits.dtype == features.dtype == getattr(torch, sys.argv[2])
    print(json.dumps({"features": features[0, ::16, ::16].float().flatten().tolist(),
                      "logits": logits[0, -1].float().tolist()}))


if __name__ == "__main__":
    run_cli(main)
