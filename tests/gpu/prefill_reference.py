"""The model's stages in plain torch, in any dtype: fp32 is the reference, fp16 and bf16 what torch itself reaches."""

import math

import torch
import torch.nn.functional as F

from tests.gpu import quantised
from tests.gpu.kernels import QUANTISED


def pick(weights, dtype, layer=None):
    """The weights (of one layer) in `dtype`."""
    return {k: (v if layer is None else v[layer]).to(dtype) for k, v in weights.items()}


def rms_norm(x, weight, epsilon=1e-6):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight


def vision_encoder(pixels, weights, patch, heads, dtype):
    """pixels f32 [N,3,S,S], stacked weights (vision_encoder_roles) -> [N,P,W] of `dtype`."""
    common = {k: v.to(dtype) for k, v in weights.items() if k in ("patch_weight", "position", "ln_pre_weight",
                                                                 "ln_pre_bias")}
    stacked = {k: v for k, v in weights.items() if k not in common}
    values = 3 * patch * patch
    x = F.unfold(pixels.to(dtype), patch, stride=patch).transpose(1, 2) @ common["patch_weight"][:, :values].T
    x = x + common["position"]
    width = x.shape[-1]

    def norm(x, w, name):
        return F.layer_norm(x, (width,), w[name + "_weight"], w[name + "_bias"], 1e-6)
    x = norm(x, common, "ln_pre")
    for layer in range(stacked["ln_1_weight"].shape[0]):
        w = pick(stacked, dtype, layer)
        q, k, v = (F.linear(norm(x, w, "ln_1"), w["qkv_weight"], w["qkv_bias"]).unflatten(-1, (3, heads, -1))
                   .permute(2, 0, 3, 1, 4))
        x = x + F.linear(attend(q, k, v).transpose(1, 2).flatten(2), w["out_weight"], w["out_bias"])
        middle = F.gelu(F.linear(norm(x, w, "ln_2"), w["fc1_weight"], w["fc1_bias"]))
        x = x + F.linear(middle, w["fc2_weight"], w["fc2_bias"])
    return x


def resampler(x, weights, heads, dtype):
    """x [N,P,W], weights (resampler_roles) -> [N,Q,E] of `dtype`."""
    w = pick(weights, dtype)
    embed = w["out_weight"].shape[0]
    kv = F.layer_norm(F.linear(x.to(dtype), w["kv_proj_weight"]), (embed,), w["ln_kv_weight"], w["ln_kv_bias"], 1e-6)
    k = F.linear(kv, w["key_value_weight"][:embed]) + w["key_bias"]
    v = F.linear(kv, w["key_value_weight"][embed:], w["value_bias"])
    q = w["query"].expand(x.shape[0], -1, -1)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    y = F.linear(attend(q, k, v).transpose(1, 2).flatten(2), w["out_weight"], w["out_bias"])
    return F.linear(F.layer_norm(y, (embed,), w["ln_post_weight"], w["ln_post_bias"], 1e-6), w["proj_weight"])


def attend(q, k, v, mask=None):
    """Attention with explicit scores; mask is True where a query may look."""
    scores = (q @ k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores.float(), -1).to(q.dtype) @ v


def rotate(x, angles):
    """x [..., T, D] rotated by angles f32 [T, D/2], computed in fp32."""
    cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
    wide = x.float()
    half = wide.shape[-1] // 2
    return (wide * cos + torch.cat([-wide[..., half:], wide[..., :half]], -1) * sin).to(x.dtype)


def decoder_row(x, weights, heads, k_cache, v_cache, past, inv_freq, logn_length, dtype, epsilon=1e-6):
    """One row: x [T,H] -> [T,H]; k_cache, v_cache [L,heads,C,D] of `dtype` are extended in place from slot `past`."""
    x = x.to(dtype)
    count, hidden = x.shape
    slots = torch.arange(past, past + count, device=x.device)
    angles = slots.float()[:, None] * inv_freq
    logn = torch.where(slots + 1 > logn_length, torch.log(slots + 1.) / math.log(logn_length), 1.) \
        if logn_length else torch.ones_like(slots, dtype=torch.float32)
    mask = torch.arange(past + count, device=x.device) <= slots[:, None]
    for layer in range(weights["ln_1_weight"].shape[0]):
        w = pick(weights, dtype, layer)
        q, k, v = (F.linear(rms_norm(x, w["ln_1_weight"], epsilon), w["qkv_weight"], w["qkv_bias"])
                   .unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3))
        q = rotate(q, angles) * logn[:, None].to(dtype)
        k_cache[layer, :, past:past + count] = rotate(k, angles)
        v_cache[layer, :, past:past + count] = v
        y = attend(q, k_cache[layer, :, :past + count], v_cache[layer, :, :past + count], mask)
        x = x + F.linear(y.transpose(0, 1).reshape(count, hidden), w["out_weight"])
        gate, up = F.linear(rms_norm(x, w["ln_2_weight"], epsilon), w["gate_up_weight"]).chunk(2, -1)
        x = x + F.linear(up * F.silu(gate), w["down_weight"])
    return x


def lm_head(x, ln_f_weight, lm_head_weight, dtype, epsilon=1e-6):
    """x [...,H] -> logits of `dtype`."""
    return F.linear(rms_norm(x.to(dtype), ln_f_weight.to(dtype), epsilon), lm_head_weight.to(dtype))


def random_weights(shapes, dtype, seed, gain=1.0):
    """Weights of the given roles on the GPU: norm weights near 1, matrices scaled by their input width."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        tensor = torch.empty(shape, dtype=dtype, device="cuda").normal_(generator=generator)
        if name.startswith("ln_") and name.endswith("weight"):
            tensor.mul_(0.1).add_(1)
        elif name.endswith("_weight"):
            tensor.mul_(gain * shape[-1] ** -0.5)
        elif name.endswith("bias"):
            tensor.mul_(0.1)
        weights[name] = tensor
    return weights


def held_weight(format, weight):
    """A random fp16 matrix, or a stack of them, as another of the same size that a packed format holds: what bfloat16
    holds, too, or numbers of a format that rounds."""
    if format in QUANTISED:
        generator = torch.Generator(device="cuda").manual_seed(weight.numel())
        spread = float(weight.view(-1)[:1 << 20].float().std()) * math.sqrt(3)
        return quantised.random_weights(format, weight.shape, spread, generator)
    return weight.bfloat16().half()


def held(format, weights):
    """The same of all matrices of a stage."""
    return {k: held_weight(format, v) if k.endswith("_weight") and not k.startswith("ln_") else v
            for k, v in weights.items()}
