"""Checkpoints in AutoGPTQ's layout (of the model in quantised_files), written bit by bit from its description, without
the reader or its tables."""

import json

import numpy as np
from quantised_files import twin_config, with_twin
from safetensors.numpy import save_file

CONFIG = {"bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": False, "static_groups": False, "sym": True,
          "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model", "quant_method": "gptq"}


def words(columns_of_codes, bits):
    """A list of lists of codes, each of which fills 32-bit words from the lowest bits on: int32 [lists, words]."""
    per_word, made = 32 // bits, []
    for codes in columns_of_codes:
        row = []
        for begin in range(0, len(codes), per_word):
            word = 0
            for place in range(per_word):
                word |= codes[begin + place] << (bits * place)
            row.append(word - (1 << 32) if word >= 1 << 31 else word)
        made.append(row)
    return np.array(made, np.int32)


def quantised_matrix(rng, shape, bits, group, symmetric):
    """({part: array}, float32 weights that these mean) of a random matrix [out, in]."""
    rows, columns = shape
    group = columns if group == -1 else group
    groups, top = columns // group, (1 << bits) - 1
    codes = rng.integers(0, top + 1, (rows, columns))
    zeros = np.full((rows, groups), (top + 1) // 2) if symmetric else rng.integers(1, top + 1, (rows, groups))
    scales = (rng.uniform(0.5, 1.5, (rows, groups)) * 0.2 / (top + 1)).astype(np.float16)
    parts = {
        "qweight": np.ascontiguousarray(words(codes.tolist(), bits).T),
        "qzeros": words((zeros - 1).T.tolist(), bits),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": np.array([column // group for column in range(columns)], np.int32)}
    exact = np.empty((rows, columns))
    for column in range(columns):
        place = column // group
        exact[:, column] = (codes[:, column] - zeros[:, place]) * scales[:, place].astype(np.float64)
    return parts, exact.astype(np.float32)


def gptq_tensors(bits=4, group=128, symmetric=True, seed=0):
    """(tensors of the checkpoint, tensors of its twin), by name."""
    return with_twin(lambda rng, shape: quantised_matrix(rng, shape, bits, group, symmetric), seed)


def gptq_config(**changed):
    return {**twin_config(), "quantization_config": {**CONFIG, **changed}}


def write_gptq(folder, tensors, config=None, shards=0):
    """A folder with these tensors, in shards as the published one where `shards` says how many; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or gptq_config()))
    if not shards:
        save_file(tensors, folder / "model.safetensors")
        return folder
    places = {name: f"model-{1 + i % shards:05}-of-{shards:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder
