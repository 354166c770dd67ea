"""Weights rounded to 8 bits a row, and kept as they were otherwise."""

from torch import nn


class Int8WeightOnlyConfig:
    def __init__(self, version, set_inductor_config):
        assert version == 2 and not set_inductor_config


class Int4WeightOnlyConfig:
    """Named by the arm's import only: torchao's 4 bits need a GPU."""


def quantize_(model, config, filter_fn):
    assert isinstance(config, Int8WeightOnlyConfig)
    names = [name for name, module in model.named_modules() if filter_fn(module, name)]
    assert "lm_head" in names and not any("visual" in name for name in names) and len(names) > 4
    for name in names:
        linear = model.get_submodule(name)
        scale = linear.weight.abs().amax(1, keepdim=True) / 127
        linear.weight = nn.Parameter((linear.weight / scale).round() * scale, requires_grad=False)
