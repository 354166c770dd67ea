"""Runs the torch baseline in half precision over the golden cases and writes what test_replay_gpu.py compares with.

    python tests/gpu/torch_half.py CHECKPOINT CASES DTYPE OUT

writes OUT/<attention>/<case>.npz with `image_features` or `logits`, attention eager and sdpa. A program of its own,
because a process that has imported paddle must not import torch.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from bench.torch_model.model import load_model
from infer.replay import IMAGES, pixels_of


def main(checkpoint, cases, dtype, out):
    for attention in ("eager", "sdpa"):
        (out / attention).mkdir()
        run(load_model(checkpoint, attention, getattr(torch, dtype), torch.device("cuda")), cases, out / attention)


@torch.inference_mode()
def run(model, cases, out):
    pixels = torch.from_numpy(pixels_of(np.load(cases / f"{IMAGES}.npz")["images_u8"])).cuda()
    features = model.encode(pixels)
    np.savez(out / f"{IMAGES}.npz", image_features=features.float().cpu().numpy())
    for path in sorted(cases.glob("case[2-7]*.npz")):
        case = dict(np.load(path))
        ids = torch.from_numpy(case["input_ids"]).cuda()
        mask = torch.from_numpy(case["attention_mask"]).cuda() if "attention_mask" in case else torch.ones_like(ids)
        used = features[torch.from_numpy(case["image_index"]).cuda()] if "image_index" in case else None
        logits = model(ids, attention_mask=mask, image_features=used).logits[:, case["logit_positions"]]
        np.savez(out / path.name, logits=logits.float().cpu().numpy())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]), sys.argv[3], Path(sys.argv[4]))
