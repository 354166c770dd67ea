"""Greedy decoding over a static KV cache, its blocks compiled, every call one CUDA graph on a GPU.

Blocks are compiled one by one: all layers share one compiled block, which takes seconds where the unrolled model takes
minutes, and the CUDA graph around them leaves no launch to the host either way.
"""

import torch
import torch.nn.functional as F
from torch import nn

from bench.torch_model.attention import additive_mask
from bench.torch_model.language import StepContext
from bench.torch_model.rotary import inverse_frequencies, logn_scale, rotation
from core.config import QUERIES

SLOT_ROUNDING = 64   # cache sizes are rounded up to this: aligned masks, and runs of similar length share a compilation
DECODE_GRAPHS = 4     # most that one generation has, each over more of the cache
RECOMPILE_LIMIT = 64  # shapes that one run may ask for
TUNINGS = {  # name -> inductor's options on a GPU
    # With this, products with one row become generated kernels that read weights faster than cuBLAS does.
    "coordinate descent": {"coordinate_descent_tuning": True},
    "max-autotune": {"max_autotune": True, "coordinate_descent_tuning": True}}


def compile_options(backend, device):
    """{name: keyword arguments of torch.compile} of the tunings worth a try; shapes are static, and a graph break is
    an error. On a CPU there is one, whose set-up takes seconds."""
    common = {"backend": backend, "fullgraph": True, "dynamic": False}
    if backend != "inductor" or device.type != "cuda":
        return {"default": common}
    return {name: {**common, "options": options} for name, options in TUNINGS.items()}


class MergedMLP(nn.Module):
    """A DecoderMLP whose first two matrices are one."""

    def __init__(self, mlp):
        super().__init__()
        weights = torch.cat([mlp.w1.weight, mlp.w2.weight])
        self.up_gate = nn.Linear(*weights.shape[::-1], bias=False, device="meta")
        self.up_gate.weight = nn.Parameter(weights, requires_grad=False)
        self.c_proj = mlp.c_proj

    def forward(self, x):
        up, gate = self.up_gate(x).chunk(2, dim=-1)
        return self.c_proj(up * F.silu(gate))


def merge_gate_up(model):
    """Make each decoder block's up and gate matrices one, in place, block by block."""
    for block in model.transformer.h:
        block.mlp = MergedMLP(block.mlp)


def compile_vision(visual, **options):
    """Compile the blocks of a VisionTower in place."""
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    for block in (*visual.transformer.resblocks, visual.attn_pool):
        block.compile(**options)


def compile_blocks(model, **options):
    """Compile the vision and decoder blocks of a QwenVLForCausalLM in place."""
    compile_vision(model.transformer.visual, **options)
    for block in (*model.transformer.h, model.transformer.ln_f):
        block.compile(**options)


class Captured:
    """A function without arguments over static tensors; on a GPU it is captured once and then replayed.

    `reset` puts the state back that the function changes; it runs before each of the calls made here.
    """

    def __init__(self, function, device, pool=None, reset=lambda: None):
        self.function, self.graph = function, None
        reset()
        self.result = function()
        if device.type == "cuda":
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                reset()
                function()
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            reset()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=pool):
                self.result = function()

    def __call__(self):
        """Run, or launch, the function; its result is overwritten by the next call."""
        if self.graph:
            self.graph.replay()
        else:
            self.result = self.function()
        return self.result


class StaticLayer:
    """One layer's keys and values, [B, heads, C, D] each; `slots` [S] are those that a call writes."""

    def __init__(self, k, v, slots, whole):
        self.k, self.v, self.slots, self.whole = k, v, slots, whole

    def update(self, k, v):
        """Store; queries see the `whole` of it in a decode step, only this call's in a prefill."""
        self.k.index_copy_(2, self.slots, k)
        self.v.index_copy_(2, self.slots, v)
        return (self.k, self.v) if self.whole else (k, v)


def decode_context(frequencies, position, slots, seq_length, use_logn, dtype):
    """StepContext's tensors for one step at `position` [1] over `slots` [C]."""
    cos, sin = rotation(frequencies, position)
    scale = logn_scale(position, seq_length, dtype) if use_logn else None
    return cos, sin, scale, torch.where(slots > position, torch.finfo(dtype).min, 0.0).to(dtype)[None, None, None, :]


def filled_slots(length, new_tokens):
    """Sizes of the part of the cache that decode steps attend over, one after the other: each step takes the first that
    holds its position, so that none reads much of what is not filled."""
    first, last = (-(-slots // SLOT_ROUNDING) * SLOT_ROUNDING for slots in (length + 1, length + new_tokens))
    step = max(SLOT_ROUNDING, -(-(last - first) // ((DECODE_GRAPHS - 1) * SLOT_ROUNDING)) * SLOT_ROUNDING)
    return [*range(first, last, step), last]


def head(lm_head, hidden):
    """[B, 1, H] -> logits [B, V] and their argmax [B, 1]."""
    logits = lm_head(hidden)[:, 0]
    return logits, logits.argmax(-1, keepdim=True)


class StaticGenerator:
    """Greedy generation of `new_tokens` for one batch of equally long prompts, again and again.

    `features` [images, QUERIES, H] is to be filled before `prefill()`; then come up to new_tokens - 1 `decode()`. Both
    return logits [B, V]. `generated` [B, new_tokens] is the outcome. Everything compiles in the constructor.
    """

    def __init__(self, model, prompts, new_tokens, pool=None, **options):
        self.model, config = model, model.geometry
        device, dtype = model.lm_head.weight.device, model.lm_head.weight.dtype
        self.tokens = torch.tensor(prompts, device=device)
        batch, self.length = self.tokens.shape
        rows, columns = (self.tokens == config.image_start_id).nonzero(as_tuple=True)
        self.image_slots = rows[:, None], columns[:, None] + 1 + torch.arange(QUERIES, device=device)
        self.features = torch.zeros(len(rows), QUERIES, config.hidden_size, dtype=dtype, device=device)
        sizes = filled_slots(self.length, new_tokens)
        capacity = sizes[-1]
        shape = batch, config.num_attention_heads, capacity, config.kv_channels
        self.keys, self.values = ([torch.zeros(shape, dtype=dtype, device=device)
                                   for _ in range(config.num_hidden_layers)] for _ in range(2))
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)
        self.next = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.generated = torch.zeros(batch, new_tokens, dtype=torch.long, device=device)

        self.frequencies = inverse_frequencies(config, self.length, device)
        self.slots = torch.arange(capacity, device=device)
        prompt = self.slots[:self.length]
        scale = self._beyond(self.length) and logn_scale(prompt, config.seq_length, dtype)
        causal = model.attention == "sdpa"
        mask = None if causal else additive_mask(self.length, self.length, dtype, device)
        self.prompt_context = StepContext(*rotation(self.frequencies, prompt), scale, mask, causal)
        self.prompt_layers = self._layers(prompt, whole=False)
        self.context = torch.compile(decode_context, **options)
        self.head = torch.compile(head, **options)
        self.launch_prefill, self.known = Captured(self._prefill, device, pool), self.length
        self.steps = {size: Captured(lambda size=size: self._decode(size), device, pool, self._rewind)
                      for size in sizes if new_tokens > 1}

    def prefill(self):
        self.known = self.length   # tokens in the cache
        return self.launch_prefill()

    def decode(self):
        self.known += 1
        return next(step for size, step in self.steps.items() if size >= self.known)()

    def _beyond(self, positions):
        return True if self.model.geometry.use_logn_attn and positions > self.model.geometry.seq_length else None

    def _layers(self, slots, whole, size=None):
        size = len(self.slots) if size is None else size
        return [StaticLayer(k[:, :, :size], v[:, :, :size], slots, whole)
                for k, v in zip(self.keys, self.values, strict=True)]

    def _rewind(self):
        self.position.fill_(self.length)
        self.step.zero_()

    def _prefill(self):
        self._rewind()
        embeddings = self.model.transformer.wte(self.tokens).index_put(self.image_slots, self.features)
        hidden = self.model.transformer(embeddings, self.prompt_context, self.prompt_layers)
        return self._choose(hidden[:, -1:].contiguous())

    def _decode(self, size):
        """A step that attends over the first `size` slots."""
        config = self.model.geometry
        context = self.context(self.frequencies, self.position, self.slots[:size], config.seq_length,
                               bool(self._beyond(size)), self.features.dtype)
        hidden = self.model.transformer(self.model.transformer.wte(self.next), StepContext(*context, False),
                                        self._layers(self.position, True, size))
        self.position.add_(1)
        return self._choose(hidden)

    def _choose(self, hidden):
        logits, best = self.head(self.model.lm_head, hidden)
        self.next.copy_(best)
        self.generated.index_copy_(1, self.step, best)
        self.step.add_(1)
        return logits
