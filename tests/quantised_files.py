"""What the writers of quantised checkpoints (gptq_files, awq_files, fp8_files) share: the model, and its twin.

The model is the golden one with an MLP of 256, in which groups of 128 go. Its decoder's matrices get random codes; the
twin is the same model with their products.
"""

import numpy as np
from checkpoint_files import golden_config, golden_tensors

MATRICES = {"attn.c_attn": (768, 256), "attn.c_proj": (256, 256), "mlp.w1": (256, 256), "mlp.w2": (256, 256),
            "mlp.c_proj": (256, 256)}
NAME = "transformer.h.1.mlp.w2"   # of the matrix that tests damage
PROMPTS = [np.random.default_rng(seed).integers(0, 256, length).tolist() for seed, length in ((1, 5), (2, 70))]


def twin_config():
    return {**golden_config(), "intermediate_size": 512}


def with_twin(quantised_matrix, seed=0):
    """(tensors of the checkpoint, tensors of its twin), by name.

    quantised_matrix(rng, shape): ({part: array}, float32 weights that these mean) of a random matrix [out, in].
    """
    rng, tensors = np.random.default_rng(seed), golden_tensors()
    twin = dict(tensors)
    for layer in range(golden_config()["num_hidden_layers"]):
        for matrix, shape in MATRICES.items():
            name = f"transformer.h.{layer}.{matrix}"
            del tensors[f"{name}.weight"]
            parts, twin[f"{name}.weight"] = quantised_matrix(rng, shape)
            tensors |= {f"{name}.{part}": array for part, array in parts.items()}
    return tensors, twin


def damager(write, tensors, folder):
    """A function that writes a checkpoint with some tensors replaced, in whose names __ stands for a dot (None: left
    out), and returns its folder; write(folder, tensors, config)."""
    def damaged(config=None, **changed):
        made = {**tensors, **{name.replace("__", "."): array for name, array in changed.items()}}
        return write(folder, {name: array for name, array in made.items() if array is not None}, config)
    return damaged
