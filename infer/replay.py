"""Replay reference cases through the exported graphs: `python -m infer.replay --exported DIR --cases DIR --out DIR`.

Reads case*.npz in the format of tests/data (its README explains every array) and writes OUT/<case>.npz with the same
names: `image_features` for a case of images alone, `logits`, `greedy_tokens` and `greedy_logits` for the others.
"""

import argparse
from pathlib import Path

import numpy as np

from core.errors import ArgumentParser, UserError, run_cli
from core.files import atomic_file
from core.placement import CHOICES
from infer.engine import Engine, to_float32
from infer.formats import AUTO
from infer.image import MEAN, STD
from infer.options import add_weights
from ops.framework import devices

IMAGES = "case1_vision"


def pixels_of(images):
    """uint8 [N, S, S, 3] -> normalised f32 [N, 3, S, S]."""
    return np.ascontiguousarray(((images.astype(np.float32) / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2))


def replay_text(engine, case, features):
    """Prefill and greedy decoding of one case's padded batch; returns the case's output arrays."""
    ids = case["input_ids"]
    batch, width = ids.shape
    mask = case["attention_mask"].astype(bool) if "attention_mask" in case else np.ones([batch, width], bool)
    prompts = [row[kept].tolist() for row, kept in zip(ids, mask)]
    padding = width - mask.sum(1)
    wanted = case["logit_positions"][None, :] - padding[:, None]  # rows are padded on the left there
    last = np.array([[len(prompt) - 1] for prompt in prompts])
    new_tokens = case["greedy_tokens"].shape[1]
    used = features[case["image_index"]] if "image_index" in case else None
    run = engine.start(prompts, used, new_tokens, logit_columns=np.concatenate([np.maximum(wanted, 0), last], axis=1))
    run.prefill()
    logits = run.logits()
    greedy = [logits[:, -1]]
    while not run.finished:
        run.step()
        greedy.append(run.logits()[:, -1])
    return {"logits": np.where(wanted[:, :, None] >= 0, logits[:, :-1], np.float32(0)),
            "greedy_tokens": np.array(run.tokens(), np.int64), "greedy_logits": np.stack(greedy, axis=1)}


def replay(exported, cases, out, device, weights=AUTO):
    """Replay every case of the folder `cases`; returns the names written. weights: as infer.engine.Engine has them."""
    files = sorted(Path(cases).glob("case*.npz"))
    if not files:
        raise UserError(f"no case*.npz in {cases}: CASES= must be a folder of reference cases")
    engine = Engine(exported, devices.placement(device), weights)
    features, written = None, []
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            case = dict(data)
        if "images_u8" in case:
            result = {"image_features": to_float32(engine.vision(pixels_of(case["images_u8"])))}
        elif "input_ids" in case:
            if "image_index" in case and features is None:
                with np.load(Path(cases) / f"{IMAGES}.npz", allow_pickle=False) as images:
                    features = engine.vision(pixels_of(images["images_u8"])).numpy()
            result = replay_text(engine, case, features)
        else:
            continue  # a case of preprocessing alone has nothing to run
        with atomic_file(Path(out) / file.name) as f:
            np.savez(f, **result)
        written.append(file.stem)
    return written


def main():
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exported", type=Path, required=True, help="folder with vision/ and language/")
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=CHOICES, default="auto")
    add_weights(parser)
    args = parser.parse_args()
    for name in replay(args.exported, args.cases, args.out, args.device, args.weights):
        print(f"{args.out / name}.npz")


if __name__ == "__main__":
    run_cli(main)
