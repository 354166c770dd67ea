"""The table of cuts fits the operators' roles, the published geometry and the packed format, and the sums come out."""

import dataclasses
import json

import numpy as np
import pytest

from core.config import ModelConfig
from core.placement import Placement
from export.synthetic import PRESETS
from ops.sharding import COLUMNS, CUTS, shares
from ops.weights import MATRICES, STAGES, stacked_layers

ROLES = {operator: roles for stage in STAGES.values() for operator, roles in stage.items()}
CUT = [(operator, role) for operator, cuts in CUTS.items() for role, cut in cuts.items() if cut]


@pytest.fixture(scope="module")
def published():
    return ModelConfig.from_dict(json.loads((PRESETS / "7b.json").read_text(encoding="utf-8")))


def parts(config, operator, role, world):
    """The shares of all ranks, ascending."""
    return sorted(part for rank in range(world) for part in shares(config, operator, role,
                                                                   Placement("gpu", rank, rank, world)))


def test_every_role_has_its_cut(published):
    assert {operator: list(cuts) for operator, cuts in CUTS.items()} == {
        operator: list(roles(published)) for operator, roles in ROLES.items()}
    assert {tuple(name.split(".")) for name in MATRICES} <= set(CUT)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("operator, role", CUT)
def test_shares_are_the_whole_once(published, operator, role, world):
    made = parts(published, operator, role, world)
    axis = CUTS[operator][role].axis + (stacked_layers(published, operator, role) is not None)
    assert [first for first, _ in made] == [0, *(end for _, end in made[:-1])]
    assert made[-1][1] == ROLES[operator](published)[role][axis] and len({end - first for first, end in made}) == 1


@pytest.mark.parametrize("world", [2, 4, 8])
def test_shares_keep_heads_whole(published, world):
    for operator, head_dim in (("decoder", published.kv_channels), ("vision_encoder", published.visual.head_dim)):
        for role in ("qkv_weight", "qkv_bias", "out_weight"):
            assert all(first % head_dim == 0 for first, _ in parts(published, operator, role, world))


def test_what_does_not_divide_is_named(published):
    odd = dataclasses.replace(published, vocab_size=151851)
    with pytest.raises(ValueError, match=r"lm_head.lm_head_weight: 151851 rows or columns do not divide by 2"):
        shares(odd, "lm_head", "lm_head_weight", Placement("gpu", 0, 0, 2))
    with pytest.raises(ValueError, match=r"decoder.qkv_weight: 32 heads do not divide by 3"):
        shares(published, "decoder", "qkv_weight", Placement("gpu", 0, 0, 3))


def held(config, role, weight, placement):
    """A rank's share of one layer's matrix of the decoder."""
    cuts = [slice(*part) for part in shares(config, "decoder", role, placement)]
    axis = CUTS["decoder"][role].axis
    return np.concatenate([weight[:, cut] if axis == COLUMNS else weight[cut] for cut in cuts], axis)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_add_up_to_the_layer(published, world):
    """Attention, in which every query looks at every key, and MLP of one layer; what differs from layer to layer is not
    the cuts' matter."""
    config = dataclasses.replace(published, hidden_size=64, num_attention_heads=4, kv_channels=16,
                                 intermediate_size=96)
    rng = np.random.default_rng(0)
    shapes = {role: shape[1:] for role, shape in ROLES["decoder"](config).items() if len(shape) == 3}
    weights = {role: rng.standard_normal(shape) for role, shape in shapes.items()}
    x = rng.standard_normal([5, 64])

    def attention(w):
        q, k, v = (part.reshape(5, -1, 16).transpose(1, 0, 2) for part in np.split(x @ w["qkv_weight"].T, 3, axis=1))
        scores = np.exp(q @ k.transpose(0, 2, 1) / 16)
        y = scores / scores.sum(-1, keepdims=True) @ v
        return y.transpose(1, 0, 2).reshape(5, -1) @ w["out_weight"].T

    def mlp(w):
        gate, up = np.split(x @ w["gate_up_weight"].T, 2, axis=1)
        return (up * gate / (1 + np.exp(-gate))) @ w["down_weight"].T

    ranks = [{role: held(config, role, weight, Placement("gpu", rank, rank, world)) for role, weight in weights.items()}
             for rank in range(world)]
    for layer in (attention, mlp):
        np.testing.assert_allclose(sum(map(layer, ranks)), layer(weights), rtol=1e-10, atol=1e-10)
