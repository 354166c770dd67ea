"""What export computes once: position tables against torch's interpolation and the reference's own tables, and the
resampler's query and key against torch."""

import numpy as np
import pytest
from checkpoint_files import GOLDEN, golden_tensors, run_code

from export import fold
from export.checkpoint import open_checkpoint
from export.stack import stacked

TORCH = """
import sys, numpy as np, torch
import torch.nn.functional as F
path, = sys.argv[1:]
a = {k: torch.from_numpy(v) for k, v in np.load(path + "/in.npz").items()}
out = {}
for grid in (2, 15, 17, 31, 32, 48):
    x = a["table"].reshape(1, 16, 16, -1).permute(0, 3, 1, 2)
    x = F.interpolate(x, size=(grid, grid), mode="bicubic", align_corners=False)
    out[f"grid{grid}"] = x.permute(0, 2, 3, 1).flatten(0, 2).numpy()
e = a["query"].shape[1]
w, b = a["in_proj_weight"], a["in_proj_bias"]
q = F.layer_norm(a["query"], (e,), a["ln_q.weight"], a["ln_q.bias"], 1e-6) + a["pos_embed"]
out["query"] = F.linear(q, w[:e], b[:e]).numpy()
pos = a["pos_embed"].reshape(1, 16, 16, -1).permute(0, 3, 1, 2)
pos = F.interpolate(pos, size=(32, 32), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(0, 2)
out["key_bias"] = F.linear(pos, w[e:2 * e], b[e:2 * e]).numpy()
np.savez(path + "/out.npz", **out)
"""
POOL = "transformer.visual.attn_pool."


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    tensors = golden_tensors()
    given = {name: tensors[POOL + name] for name in ("query", "pos_embed", "ln_q.weight", "ln_q.bias")}
    given.update({name: tensors[POOL + "attn." + name] for name in ("in_proj_weight", "in_proj_bias")})
    np.savez(folder / "in.npz", table=tensors["transformer.visual.positional_embedding"], **given)
    run_code(TORCH, folder)
    return np.load(folder / "out.npz")


@pytest.mark.parametrize("grid", [2, 15, 17, 31, 32, 48])
def test_bicubic_resize(reference, grid):
    resized = fold.resize_positions(golden_tensors()["transformer.visual.positional_embedding"], grid)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, reference[f"grid{grid}"], atol=5e-7)


def test_a_table_of_the_same_grid_is_used_as_it_is():
    table = golden_tensors()["transformer.visual.positional_embedding"]
    assert fold.resize_positions(table, 16) is table


def test_tables_of_the_reference_model(tiny):
    case, tensors = np.load(tiny / "case1_vision.npz"), golden_tensors()
    for name, saved in (("transformer.visual.positional_embedding", "pos_embed_1024_sub"),
                        (POOL + "pos_embed", "resampler_pos_embed_1024_sub")):
        resized = fold.resize_positions(tensors[name], 32)[case["patch_index"]]
        np.testing.assert_allclose(resized, case[saved].reshape(resized.shape), atol=1e-6)


@pytest.mark.parametrize("role", ["query", "key_bias"])
def test_resampler_folding(reference, role):
    values = np.concatenate(list(stacked(open_checkpoint(GOLDEN), f"resampler.{role}", "float32")))
    np.testing.assert_allclose(values, reference[role], atol=1e-5)
