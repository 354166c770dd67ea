"""Checkpoints in AutoAWQ's layout (version GEMM), written bit by bit from its description, without the reader or its
tables. The model is that of quantised_files."""

import json

import numpy as np
from quantised_files import twin_config, with_twin
from safetensors.numpy import save_file

CONFIG = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
          "modules_to_not_convert": None}
OLDER = {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}   # what quant_config.json says
PLACES = {0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7}   # of eight neighbours: which four bits of a word each has


def words(rows_of_codes):
    """A list of lists of codes, eight neighbours of which make a word: int32 [lists, words]."""
    made = []
    for codes in rows_of_codes:
        row = []
        for begin in range(0, len(codes), 8):
            word = sum(codes[begin + neighbour] << 4 * place for neighbour, place in PLACES.items())
            row.append(word - (1 << 32) if word >= 1 << 31 else word)
        made.append(row)
    return np.array(made, np.int32)


def quantised_matrix(rng, shape, group):
    """({part: array}, float32 weights that these mean) of a random matrix [out, in]."""
    rows, columns = shape
    group = columns if group == -1 else group
    codes = rng.integers(0, 16, (columns, rows))
    zeros = rng.integers(0, 16, (columns // group, rows))
    scales = (rng.uniform(0.5, 1.5, zeros.shape) / 80).astype(np.float16)
    exact = np.empty(shape)
    for column in range(columns):
        exact[:, column] = (codes[column] - zeros[column // group]) * scales[column // group].astype(np.float64)
    parts = {"qweight": words(codes.tolist()), "qzeros": words(zeros.tolist()), "scales": scales}
    return parts, exact.astype(np.float32)


def awq_tensors(group=128, seed=0):
    """(tensors of the checkpoint, tensors of its twin), by name."""
    return with_twin(lambda rng, shape: quantised_matrix(rng, shape, group), seed)


def awq_config(**changed):
    return {**twin_config(), "quantization_config": {**CONFIG, **changed}}


def write_awq(folder, tensors, config=None):
    """A folder with these tensors; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or awq_config()))
    save_file(tensors, folder / "model.safetensors")
    return folder
