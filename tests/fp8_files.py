"""Checkpoints in compressed-tensors' layout of 8-bit floating weights, written from its description, without the reader
or its tables. The model is that of quantised_files, whose codes are random numbers of 8 bits here."""

import json
import struct

import numpy as np
from checkpoint_files import bfloat16_bits
from quantised_files import twin_config, with_twin

WEIGHTS = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False,
           "group_size": None, "block_structure": None, "actorder": None, "observer": "minmax", "observer_kwargs": {}}
ENTRY = {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
         "global_compression_ratio": 1.5, "kv_cache_scheme": None, "ignore": ["lm_head"],
         "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS, "output_activations": None,
                                       "input_activations": {**WEIGHTS, "strategy": "token", "dynamic": True}}}}
SAFETENSORS = {"<f4": "F32", "<f2": "F16", "<i4": "I32", "<u2": "BF16", "|u1": "F8_E4M3"}   # of these files' arrays


def number(code):
    """The number that eight bits mean: a sign, four bits of exponent, three of mantissa."""
    sign, exponent, mantissa = code >> 7, code >> 3 & 15, code & 7
    magnitude = mantissa / 8 * 2.0 ** -6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -magnitude if sign else magnitude


def quantised_matrix(rng, shape, scale_type):
    """({part: array}, float32 weights that these mean) of a random matrix [out, in]."""
    codes = rng.integers(0, 256, shape).astype(np.uint8)
    codes[codes & 0x7F == 0x7F] = 0x7E   # the two that mean no number
    scales = (rng.uniform(0.5, 1.5, (shape[0], 1)) / 1500).astype(np.float32)
    if scale_type == "bfloat16":
        stored = bfloat16_bits(scales)
        scales = (stored.astype(np.uint32) << 16).view(np.float32)
    else:
        stored = scales.astype(scale_type)
        scales = stored.astype(np.float32)
    numbers = np.array([number(code) for code in range(256)])[codes]
    return {"weight": codes, "weight_scale": stored}, numbers.astype(np.float32) * scales


def fp8_tensors(scale_type="float32", seed=0):
    """(tensors of the checkpoint, tensors of its twin), by name; uint8 stands for the 8-bit type, uint16 for
    bfloat16."""
    return with_twin(lambda rng, shape: quantised_matrix(rng, shape, scale_type), seed)


def fp8_config(**changed):
    return {**twin_config(), "quantization_config": {**ENTRY, **changed}}


def weights_changed(**changed):
    """config_groups with other settings of weights."""
    return {"group_0": {**ENTRY["config_groups"]["group_0"], "weights": {**WEIGHTS, **changed}}}


def write_safetensors(path, tensors):
    """A file of these arrays; NumPy and the safetensors package have no name for numbers of 8 bits."""
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": SAFETENSORS[array.dtype.str], "shape": array.shape,
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in tensors.values()))


def write_fp8(folder, tensors, config=None):
    """A folder with these tensors; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or fp8_config()))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder
