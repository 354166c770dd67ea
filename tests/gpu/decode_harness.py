"""The decode kernels behind ctypes, random models for them, and the same step in fp32 PyTorch."""

import ctypes
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ops import formats
from tests.gpu import quantised
from tests.gpu.kernels import QUANTISED, library_path, pack_on_device

_INTEGERS = ("dtype", "batch", "hidden", "layers", "heads", "head_dim", "mlp_width", "vocab", "cache_batch",
             "cache_slots", "generated_slots", "stop_count", "seq_length")
_WEIGHTS = ("token_embedding", "ln_1_weight", "qkv_weight", "qkv_bias", "out_weight", "ln_2_weight", "gate_up_weight",
            "down_weight", "ln_f_weight", "lm_head_weight")
_STATE = ("inv_freq", "stop_tokens", "positions", "next_tokens", "generated", "counts", "finished", "k_cache",
          "v_cache", "logits")
_HALVES = ("hidden_in", "hidden_out")
TUNING = ("ring_stages", "rows_in_flight", "rows_in_exchange", "ahead_columns")
GAVE_UP = 10005  # QWEN_VL_GAVE_UP of ops/kernels/common/status.h
MATRICES = ("qkv_weight", "out_weight", "gate_up_weight", "down_weight", "lm_head_weight")


class DecodeArgs(ctypes.Structure):
    """QwenVlDecodeArgs of ops/kernels/decode/step.h."""

    _fields_ = ([(name, ctypes.c_int32) for name in _INTEGERS] + [("epsilon", ctypes.c_float)]
                + [(name, ctypes.c_void_p) for name in _WEIGHTS + _STATE + _HALVES]
                + [(name, ctypes.c_int32) for name in ("leave_choice", "format") + TUNING])


@dataclass(frozen=True)
class Geometry:
    """One model and the sizes of one run's state; dtype is torch.float16 or bfloat16, format: the packed
    format of its matrices, "" for none; head: that of lm_head, None for the same."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    vocab: int
    batch: int = 1
    slots: int = 64
    dtype: torch.dtype = torch.float16
    seq_length: int = 0
    generated: int = 16
    epsilon: float = 1e-6
    format: str = ""
    head: str | None = None

    @property
    def head_dim(self):
        return self.hidden // self.heads

    @property
    def weight_bytes(self):
        """Bytes of weights that one step reads (one embedding row aside)."""
        h, n = self.hidden, self.layers
        layers = formats.get(self.format or "float16")
        head = layers if self.head is None else formats.get(self.head or "float16")
        matrices = sum(layers.bytes([n, *shape]) for shape in ((3 * h, h), (h, h), (2 * self.mlp, h), (h, self.mlp)))
        return matrices + head.bytes([self.vocab, h]) + 2 * h * (5 * n + 1)

    @property
    def bits(self):
        """Of a weight of its matrices."""
        return formats.get(self.format or "float16").bits

    @property
    def format_number(self):
        """The kernels' number of their format."""
        return formats.NAMES.index(self.format or str(self.dtype).removeprefix("torch."))


def load_library():
    """The kernels' library, its functions declared."""
    return open_library(library_path())


def open_library(path):
    library = ctypes.CDLL(str(Path(path).resolve()))
    library.qwen_vl_decode_workspace_bytes.restype = ctypes.c_size_t
    library.qwen_vl_status_text.restype = ctypes.c_char_p
    library.qwen_vl_decode_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return library


def make_weights(g, seed=0):
    """Random weights of a size that keeps activations near one, in the layout of ops/weights.py."""
    generator = torch.Generator("cuda").manual_seed(seed)

    def uniform(*shape, spread, centre=0.0):
        tensor = torch.empty(shape, dtype=g.dtype, device="cuda")
        return tensor.uniform_(centre - spread, centre + spread, generator=generator)

    def matrix(*shape, format=g.format):
        spread = math.sqrt(3 / shape[-1])
        if format in QUANTISED:
            return quantised.random_weights(format, shape, spread, generator)
        values = uniform(*shape, spread=spread)
        return values.bfloat16().half() if format else values

    h, n, m, v = g.hidden, g.layers, g.mlp, g.vocab
    return {
        "token_embedding": uniform(v, h, spread=1.7), "ln_1_weight": uniform(n, h, spread=0.3, centre=1),
        "qkv_weight": matrix(n, 3 * h, h), "qkv_bias": uniform(n, 3 * h, spread=0.3), "out_weight": matrix(n, h, h),
        "ln_2_weight": uniform(n, h, spread=0.3, centre=1), "gate_up_weight": matrix(n, 2 * m, h),
        "down_weight": matrix(n, h, m), "ln_f_weight": uniform(h, spread=0.3, centre=1),
        "lm_head_weight": matrix(v, h, format=g.format if g.head is None else g.head),
    }


def stored(library, g, weights):
    """The weights as the kernel takes them: matrices in the formats that `g` names."""
    kept = {name: g.format for name in MATRICES}
    if g.head is not None:
        kept["lm_head_weight"] = g.head
    return {**weights, **{name: pack_on_device(library, weights[name], format) for name, format in kept.items()
                          if format}}


def make_state(g, positions, stop_tokens=(-1,), finished=None, seed=1):
    """State before a step: random tokens and cache contents up to `positions`; the rest is poisoned with NaN."""
    generator = torch.Generator("cuda").manual_seed(seed)
    cache = [g.layers, g.batch, g.heads, g.slots, g.head_dim]
    state = {
        "inv_freq": (10000.0 ** (-torch.arange(0, g.head_dim, 2, device="cuda") / g.head_dim)).repeat(g.batch, 1),
        "stop_tokens": torch.tensor(stop_tokens, dtype=torch.int64, device="cuda"),
        "positions": torch.tensor(positions, dtype=torch.int32, device="cuda"),
        "next_tokens": torch.randint(g.vocab, (g.batch, 1), device="cuda", generator=generator),
        "generated": torch.full((g.batch, g.generated), -7, dtype=torch.int64, device="cuda"),
        "counts": torch.zeros(g.batch, dtype=torch.int32, device="cuda"),
        "finished": torch.tensor(finished or [0] * g.batch, dtype=torch.int32, device="cuda"),
        "k_cache": torch.empty(cache, dtype=g.dtype, device="cuda").normal_(generator=generator),
        "v_cache": torch.empty(cache, dtype=g.dtype, device="cuda").normal_(generator=generator),
        "logits": torch.full((g.batch, g.vocab), float("nan"), device="cuda"),
    }
    for row, position in enumerate(positions):
        for name in ("k_cache", "v_cache"):
            state[name][:, row, :, position:] = float("nan")
    return state


class Decoder:
    """Steps of the fused kernel over given weights and state tensors; `halves` may hold hidden_in and hidden_out.

    leave_choice: end each step with the logits, without choosing tokens; tuning: values for TUNING's fields.
    """

    def __init__(self, library, g, weights, state, leave_choice=False, tuning=None, **halves):
        self.library, self.tensors = library, (weights, state, halves)
        values = {"dtype": int(g.dtype == torch.bfloat16), "batch": g.batch, "hidden": g.hidden, "layers": g.layers,
                  "heads": g.heads, "head_dim": g.head_dim, "mlp_width": g.mlp, "vocab": g.vocab,
                  "cache_batch": g.batch, "cache_slots": g.slots, "generated_slots": g.generated,
                  "stop_count": len(state["stop_tokens"]), "seq_length": g.seq_length, "epsilon": g.epsilon,
                  "leave_choice": int(leave_choice), "format": g.format_number, **(tuning or {})}
        pointers = {name: tensor.data_ptr() for name, tensor in {**weights, **state, **halves}.items()}
        self.args = DecodeArgs(**values, **pointers)
        size = library.qwen_vl_decode_workspace_bytes(ctypes.byref(self.args))
        if size == 0:
            raise ValueError(f"the decode kernel does not support {g} on this card")
        self.workspace = torch.zeros(size, dtype=torch.uint8, device="cuda")

    def step(self):
        """Enqueue one step on PyTorch's current stream."""
        error = self.library.qwen_vl_decode_step(ctypes.byref(self.args), self.workspace.data_ptr(),
                                                 self.workspace.numel(), torch.cuda.current_stream().cuda_stream)
        if error:
            raise RuntimeError(f"qwen_vl_decode_step: CUDA error {error}")

    def graph(self):
        """One step as a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph


class Halves:
    """The same steps as two launches, the layers and the head, whose formats may differ."""

    def __init__(self, library, g, weights, state, tuning=None):
        hidden = torch.empty(g.batch, g.hidden, dtype=g.dtype, device="cuda")
        head = replace(g, layers=0, format=g.format if g.head is None else g.head)
        self.parts = [Decoder(library, g, weights, state, tuning=tuning, hidden_out=hidden),
                      Decoder(library, head, weights, state, tuning=tuning, hidden_in=hidden)]

    def step(self):
        for part in self.parts:
            part.step()

    graph = Decoder.graph


def decoder_of(library, g, weights, state, tuning=None):
    """Whatever takes the steps of `g`: one launch, where one can."""
    kind = Decoder if g.head is None else Halves
    return kind(library, g, weights, state, tuning=tuning)


def rotate(x, cosine, sine):
    low, high = x.chunk(2, -1)
    return torch.cat([low * cosine - high * sine, high * cosine + low * sine], -1)


def reference_step(g, weights, state):
    """The step in fp32 on copies: (logits [B, V], new keys and new values [L, B, heads, D])."""
    batch, heads, dim = g.batch, g.heads, g.head_dim
    positions = state["positions"].long()
    angle = positions[:, None].float() * state["inv_freq"]
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    log_n = torch.ones(batch, device="cuda")
    if g.seq_length:
        tokens = (positions + 1).float()
        log_n = torch.where(tokens > g.seq_length, tokens.log() / math.log(g.seq_length), log_n)

    def norm(x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + g.epsilon) * weight.float()

    x = weights["token_embedding"][state["next_tokens"][:, 0]].float()
    keys, values = [], []
    for layer in range(g.layers):
        w = {name: tensor[layer] for name, tensor in weights.items()
             if name not in ("token_embedding", "ln_f_weight", "lm_head_weight")}
        qkv = norm(x, w["ln_1_weight"]) @ w["qkv_weight"].float().T + w["qkv_bias"].float()
        q, k, v = qkv.view(batch, 3, heads, dim).unbind(1)
        q = rotate(q, cosine, sine) * log_n[:, None, None]
        k = rotate(k, cosine, sine)
        keys.append(k)
        values.append(v)
        attended = torch.empty(batch, heads, dim, device="cuda")
        for row in range(batch):
            p = int(positions[row])
            past_k, past_v = (state[name][layer, row, :, :p].float() for name in ("k_cache", "v_cache"))
            all_k, all_v = torch.cat([past_k, k[row, :, None]], 1), torch.cat([past_v, v[row, :, None]], 1)
            score = torch.einsum("hd,hsd->hs", q[row], all_k) / math.sqrt(dim)
            attended[row] = torch.einsum("hs,hsd->hd", score.softmax(-1), all_v)
        x = x + attended.view(batch, -1) @ w["out_weight"].float().T
        gate, up = (norm(x, w["ln_2_weight"]) @ w["gate_up_weight"].float().T).chunk(2, -1)
        x = x + (up * torch.nn.functional.silu(gate)) @ w["down_weight"].float().T
    logits = torch.cat([norm(x, weights["ln_f_weight"]) @ part.float().T
                        for part in weights["lm_head_weight"].split(16384)], 1)
    return logits, torch.stack(keys), torch.stack(values)


def relative_error(result, reference):
    """Norm of the difference over the norm of the reference; NaN where anything is NaN."""
    return float((result.float() - reference).norm() / reference.norm())
