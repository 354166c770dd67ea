"""Runs the torch baseline over the golden cases and prints the differences as JSON.

A program of its own, because a process that has imported paddle must not import torch: test_torch_baseline.py
starts it with the interpreter that has torch.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from bench.torch_model.model import load_model

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def difference(ours, golden, where=slice(None)):
    return float(np.abs(ours - golden)[where].max())


def compare(model, case, features):
    """Differences of one golden case: prefill logits, logits of the greedy steps, tokens."""
    ids = torch.from_numpy(case["input_ids"])
    mask = torch.from_numpy(case["attention_mask"]) if "attention_mask" in case else torch.ones_like(ids)
    images = features[torch.from_numpy(case["image_index"])] if "image_index" in case else None
    columns = case["logit_positions"]
    with torch.inference_mode():
        logits = model(ids, attention_mask=mask, image_features=images).logits.numpy()[:, columns]
    out = model.generate(ids, attention_mask=mask, image_features=images, do_sample=False, output_logits=True,
                         max_new_tokens=case["greedy_tokens"].shape[1], return_dict_in_generate=True)
    return {"logits": difference(logits, case["logits"], mask.numpy()[:, columns] == 1),
            "greedy_logits": difference(torch.stack(out.logits, 1).numpy(), case["greedy_logits"]),
            "tokens_equal": bool((out.sequences[:, ids.shape[1]:].numpy() == case["greedy_tokens"]).all())}


def main(data_dir):
    data_dir = Path(data_dir)
    images = np.load(data_dir / "case1_vision.npz")
    pixels = ((images["images_u8"].astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    report = {}
    for attention in ("eager", "sdpa"):
        model = load_model(data_dir / "checkpoint", attention)
        features = model.encode(torch.from_numpy(np.ascontiguousarray(pixels)))
        report[attention] = {"case1_vision": {"features": difference(features.numpy(), images["image_features"])}}
        for path in sorted(data_dir.glob("case[2-7]*.npz")):
            with np.load(path) as case:
                report[attention][path.stem] = compare(model, dict(case), features)
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
