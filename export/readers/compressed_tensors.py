"""The layout of quantised matrices that compressed-tensors calls float-quantized, with a scale a row
(export/readers/quantised.py).

A matrix [out, in] called X is

    X.weight        float8_e4m3fn [out, in]            in converted files uint8, the same bits
    X.weight_scale  float32, float16 or bfloat16 [out, 1]

and a weight is number * scale.
"""

import dataclasses

import numpy as np

from export.readers.quantised import Layout, QuantisedTensor, shown
from ops import formats
from ops.quantisation import Quantisation

METHOD, FORMAT, CODE = "compressed-tensors", "float-quantized", "float8_e4m3fn"
WEIGHTS = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}   # what is read
ACTIVATIONS = {**WEIGHTS, "strategy": "token", "dynamic": True}   # what programs with such products may make of theirs


class CompressedTensor(QuantisedTensor):

    def _codes(self):
        return self.parts["weight"].read()

    def _scales(self):
        """float32 [out, 1]."""
        scales = self.parts["weight_scale"]
        return self.above_zero("weight_scale", formats.get(scales.dtype).unpack(scales.read()))

    def _zeros(self):
        return None


class CompressedTensors(Layout):
    METHOD, TITLE, BESIDE, ROUNDED = METHOD, METHOD, "", "fp8"
    TYPES = {"weight": (CODE,), "weight_scale": ("float32", "float16", "bfloat16")}
    TENSOR = CompressedTensor

    @classmethod
    def settings(cls, entry, where):
        groups = entry.get("config_groups")
        groups = list(groups.values()) if isinstance(groups, dict) else []
        group = groups[0] if len(groups) == 1 and isinstance(groups[0], dict) else {}
        weights, activations = group.get("weights"), group.get("input_activations")
        weights = weights if isinstance(weights, dict) else {}
        on_the_way = not activations or isinstance(activations, dict) and activations.get("dynamic") is True
        said = cls.refused(where, (
            (entry.get("format") != FORMAT, f"format {shown(entry.get('format'))} (read is {FORMAT!r})"),
            (len(groups) != 1, f"{len(groups)} config_groups (read is 1)"),
            *((weights.get(name, expected if name == "dynamic" else None) != expected,
               f"{name} of weights {shown(weights.get(name))} (read is {expected!r})")
              for name, expected in WEIGHTS.items()),
            (not on_the_way, "input_activations that are not dynamic"),
            (bool(group.get("output_activations")), "output_activations"),
            *((bool(entry.get(name)), name) for name in ("kv_cache_scheme", "transform_config")),
            (_is_sparse(entry.get("sparsity_config")), "sparsity_config")))
        return (None, said) if said else (cls(Quantisation(8, 0, False, True)), "")

    def part_shapes(self, shape):
        return {"weight": shape, "weight_scale": (shape[0], 1)}

    def stored_as(self, part, tensor):
        if part == "weight" and tensor.dtype == "uint8":
            return dataclasses.replace(tensor, dtype=CODE)
        return tensor

    def entry(self):
        """What a config says of a checkpoint that was quantised so."""
        group = {"targets": ["Linear"], "weights": WEIGHTS, "input_activations": ACTIVATIONS,
                 "output_activations": None}
        return {"quant_method": METHOD, "format": FORMAT, "quantization_status": "compressed", "kv_cache_scheme": None,
                "config_groups": {"group_0": group}, "ignore": ["lm_head", r"re:.*visual\..*"]}

    def parts_of(self, codes):
        """{part: array} of Codes of a matrix: the inverse of reading them."""
        return {"weight": codes.codes, "weight_scale": codes.scales.astype(np.float32, copy=False)}


def _is_sparse(entry):
    return bool(entry) and (not isinstance(entry, dict) or entry.get("format") != "dense")
