"""Time of the vision encoder, the resampler, the prefill and large-batch steps at the published 7B shapes.

    QWEN_VL_KERNELS=<library> python -m tests.gpu.bench_prefill [--dtype bfloat16] [--weights float16] [--small]
        [--skip-check] [--only language] [--prompts 1x286,1x1024,4x286] [--library NAME=PATH …]

Weights are random. Each stage is first compared with torch (fp32, and the same dtype: the error may be 1.25 x torch's),
then captured into a CUDA graph and replayed; times are medians by CUDA events: of single replays after a pause (as in
a request that arrives now and then) and of replays back to back (where the card may reach its power limit and lower
its clock). The table of kernels is one replay seen by torch's profiler. --weights: how the language model's matrices
are kept; in the first packed format unless it says otherwise or the dtype is bfloat16. --small: a fourth of the layers.
--library: kernels to compare, over the same memory and in an order drawn anew for every replay; the first are checked
and listed.
"""

import argparse
import ctypes
import os
import random
import re
import statistics
import sys
import time
from collections import defaultdict

import torch

from core.config import ModelConfig
from ops.weights import (
    decoder_roles,
    embedding_roles,
    lm_head_roles,
    padded_patch_values,
    resampler_roles,
    vision_encoder_roles,
)
from tests.gpu import prefill_reference as reference
from tests.gpu.kernels import PACKED, STORED, library_path
from tests.gpu.prefill_library import DTYPES, Library, relative_error

EPSILON = 1e-6
PUBLISHED = dict(
    vocab_size=151936, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, kv_channels=128,
    intermediate_size=22016, seq_length=2048, max_position_embeddings=8192, layer_norm_epsilon=EPSILON,
    rotary_emb_base=10000, use_dynamic_ntk=True, use_logn_attn=True,
    visual=dict(image_size=448, patch_size=14, width=1664, layers=48, heads=16, mlp_ratio=4.9231, output_dim=4096,
                image_start_id=151857))


def capture(run):
    """The launch as a CUDA graph, after one plain call that chooses the matrix products' algorithms."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def replay_ms(graphs, repeats, pause):
    """Median time of one replay of each graph in ms; the device idles for `pause` seconds before each, with 0 they
    queue up."""
    order, pairs = random.Random(0), {name: [] for name in graphs}
    for _ in range(3):
        for graph in graphs.values():
            graph.replay()
    for _ in range(repeats):
        for name in order.sample(list(graphs), len(graphs)):
            if pause:
                torch.cuda.synchronize()
                time.sleep(pause)
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            graphs[name].replay()
            pair[1].record()
            pairs[name].append(pair)
    torch.cuda.synchronize()
    return {name: statistics.median(first.elapsed_time(second) for first, second in times)
            for name, times in pairs.items()}


def kernel_table(graph):
    """[(kernel, calls, ms)] of one replay, longest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        graph.replay()
        torch.cuda.synchronize()
    totals = defaultdict(lambda: [0, 0.0])
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = re.sub(r"^void |qwen::|\(anonymous namespace\)::|\(.*$", "", event.name)
            totals[name][0] += 1
            totals[name][1] += event.device_time / 1000
    return sorted(((n, c, t) for n, (c, t) in totals.items()), key=lambda row: -row[2])


class Report:
    """Collects rows, prints the kernels as it goes and the table of stages last."""

    def __init__(self):
        self.rows = []

    def stage(self, name, runs, flops, repeats, error=None):
        """`runs`: {library: launch}; `error`: the first one's and torch's."""
        graphs = {library: capture(run) for library, run in runs.items()}
        paused, queued = replay_ms(graphs, repeats, 0.02), replay_ms(graphs, repeats, 0)
        kernels = kernel_table(next(iter(graphs.values())))
        print(f"\n{name}: kernels of one replay (sum {sum(t for _, _, t in kernels):.3f} ms)")
        for kernel, calls, ms in kernels[:14]:
            print(f"  {ms:8.3f} ms {calls:5d} x {1000 * ms / calls:8.2f} us  {kernel[:100]}")
        for library in graphs:
            self.rows.append((name, library, paused[library], queued[library], flops / paused[library] / 1e9, error))
            error = None

    def finish(self):
        print(f"\n{'stage':40s} {'library':12s} {'paused ms':>10s} {'queued ms':>10s} {'TFLOP/s':>9s}  error (torch's)")
        for name, library, paused, queued, rate, error in self.rows:
            errors = "" if error is None else f"{error[0]:.2e} ({error[1]:.2e})"
            print(f"{name:40s} {library:12s} {paused:10.3f} {queued:10.3f} {rate:9.1f}  {errors}")
        bad = [name for name, *_, error in self.rows if error and not error[0] <= 1.25 * error[1]]
        print("correct" if not bad else f"WRONG: {', '.join(bad)}")
        return 1 if bad else 0


def bench_vision(libraries, config, dtype, images, report, options):
    v = config.visual
    encoder = reference.random_weights(vision_encoder_roles(config), dtype, 1)
    resampler = reference.random_weights(resampler_roles(config), dtype, 2)
    pixels = torch.randn(images, 3, v.image_size, v.image_size, device="cuda")
    x = torch.empty(images, v.patches, v.width, device="cuda", dtype=dtype)
    y = torch.empty(images, 256, v.output_dim, device="cuda", dtype=dtype)

    def launch(kernels):
        run_encoder = kernels.prepare_stage(
            "vision_encoder", pixels=pixels, y=x, **encoder, images=images, image_size=v.image_size,
            patch_size=v.patch_size, patch_columns=padded_patch_values(config), width=v.width, layers=v.layers,
            heads=v.heads, mlp_width=v.mlp_width, epsilon=EPSILON, dtype=DTYPES[dtype])
        run_resampler = kernels.prepare_stage(
            "resampler", x=x, y=y, **resampler, images=images, patches=v.patches, width=v.width, embed=v.output_dim,
            queries=256, heads=v.resampler_heads, epsilon=EPSILON, dtype=DTYPES[dtype])

        def run():
            run_encoder()
            run_resampler()
        return run
    runs = {name: launch(kernels) for name, kernels in libraries.items()}
    error = None
    if options.check and images == 1:
        next(iter(runs.values()))()
        same = reference.vision_encoder(pixels, encoder, v.patch_size, v.heads, dtype)
        exact = reference.vision_encoder(pixels, encoder, v.patch_size, v.heads, torch.float32)
        print(f"encoder error {relative_error(x, exact):.3e}, torch's {relative_error(same, exact):.3e}")
        same = reference.resampler(same, resampler, v.resampler_heads, dtype)
        exact = reference.resampler(exact, resampler, v.resampler_heads, torch.float32)
        error = relative_error(y, exact), relative_error(same, exact)
    rows, e = images * v.patches, v.output_dim
    products = v.layers * (4 * v.width ** 2 + 2 * v.width * v.mlp_width) + padded_patch_values(config) * v.width
    flops = 2 * rows * (products + v.width * e + 2 * e * e) + 4 * 256 * images * e * e
    flops += 4 * images * v.patches ** 2 * v.width * v.layers + 4 * images * 256 * v.patches * e
    report.stage(f"vision, {images} image(s)", runs, flops, options.repeats, error)


class Language:
    """Weights and state of the language model, and its stages as one launch; `kernels` packs the weights."""

    def __init__(self, kernels, config, dtype, format):
        self.config, self.dtype, self.format = config, dtype, format
        self.decoder = reference.random_weights(decoder_roles(config), dtype, 3)
        self.table = reference.random_weights(embedding_roles(config), dtype, 4)["token_embedding"]
        self.head = reference.random_weights(lm_head_roles(config), dtype, 5)
        self.stored = self.decoder, self.head
        if format:
            self.decoder, self.head = (reference.held(format, stage) for stage in self.stored)
            self.stored = [kernels.packed(stage, format) for stage in (self.decoder, self.head)]
        self.inv_freq = 10000.0 ** -(torch.arange(0, config.kv_channels, 2, device="cuda") / config.kv_channels)

    def prepare(self, batch, seq, capacity, past):
        c = self.config
        ints = dict(dtype=torch.int32, device="cuda")
        self.batch, self.seq, self.capacity = batch, seq, capacity
        self.tokens = torch.randint(0, c.vocab_size, (batch, seq), device="cuda")
        self.features = torch.randn(batch, 256, c.hidden_size, device="cuda").to(self.dtype)
        self.starts = torch.tensor([[b, 3] if seq > 258 else [-1, 0] for b in range(batch)], **ints)
        self.hidden = torch.empty(batch, seq, c.hidden_size, device="cuda", dtype=self.dtype)
        self.logits = torch.empty(batch, 1, c.vocab_size, device="cuda")
        shape = (c.num_hidden_layers, batch, c.num_attention_heads, capacity, c.kv_channels)
        self.caches = [torch.randn(shape, device="cuda", dtype=self.dtype) for _ in "kv"]
        self.positions = torch.full((batch,), past, **ints)

    def launch(self, kernels):
        """The stages over what `prepare` made."""
        c, code, batch, seq, capacity = self.config, DTYPES[self.dtype], self.batch, self.seq, self.capacity
        ints, longs = (dict(dtype=kind, device="cuda") for kind in (torch.int32, torch.int64))
        lengths = torch.full((batch,), seq, **ints)
        embed = kernels.struct(
            "embedding", table=self.table, tokens=self.tokens, features=self.features,
            image_starts=self.starts, hidden=self.hidden, batch=batch, seq=seq,
            hidden_size=c.hidden_size, vocab=c.vocab_size, images=batch, features_per_image=256, dtype=code)
        decode = kernels.prepare_stage(
            "decoder_prefill", x=self.hidden, y=self.hidden, k_cache=self.caches[0], v_cache=self.caches[1],
            lengths=lengths, positions=self.positions, inv_freq=self.inv_freq.expand(batch, -1).contiguous(),
            **self.stored[0], format=self.format, batch=batch, seq=seq, tokens=batch * seq, hidden=c.hidden_size,
            layers=c.num_hidden_layers, heads=c.num_attention_heads, mlp_width=c.mlp_width, capacity=capacity,
            logn_length=c.seq_length, epsilon=EPSILON, dtype=code)
        head = kernels.prepare_stage(
            "lm_head", x=self.hidden, logit_columns=torch.full((batch, 1), seq - 1, **ints),
            lengths=torch.zeros(batch, **ints),  # positions stay, so that every replay is the same call
            stop_tokens=torch.full((1,), -1, **longs), **self.stored[1], format=self.format, logits=self.logits,
            positions=self.positions, next_tokens=torch.zeros(batch, 1, **longs),
            generated=torch.zeros(batch, 4, **longs), counts=torch.zeros(batch, **ints),
            finished=torch.zeros(batch, **ints), batch=batch, seq=seq, columns=1, hidden=c.hidden_size,
            vocab=c.vocab_size, stop_count=1, generated_slots=4, epsilon=EPSILON, dtype=code)

        def run():
            kernels.check(kernels.so.qwen_vl_embedding(ctypes.byref(embed), kernels.stream()))
            decode()
            head()
        return run

    def flops(self, tokens, heads_out):
        c = self.config
        layer = 4 * c.hidden_size ** 2 + 3 * c.hidden_size * c.mlp_width
        return 2 * tokens * c.num_hidden_layers * layer + 2 * heads_out * c.hidden_size * c.vocab_size

    def error(self, seq):
        """Error of the last column's logits after a prefill of one row: ours and torch's in the same dtype."""
        c = self.config
        logits = {}
        for kind in (self.dtype, torch.float32):
            x = self.table[self.tokens[0]].clone()
            if seq > 258:
                x[3:259] = self.features[0]
            shape = (c.num_hidden_layers, c.num_attention_heads, seq, c.kv_channels)
            k, v = (torch.zeros(shape, device="cuda", dtype=kind) for _ in "kv")
            x = reference.decoder_row(x, self.decoder, c.num_attention_heads, k, v, 0, self.inv_freq, c.seq_length,
                                      kind)
            logits[kind] = reference.lm_head(x[-1], self.head["ln_f_weight"], self.head["lm_head_weight"], kind)
        return relative_error(self.logits[0, 0], logits[torch.float32]), relative_error(logits[self.dtype],
                                                                                         logits[torch.float32])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float16", choices=("float16", "bfloat16"))
    parser.add_argument("--weights", choices=(*STORED, "float16"),
                        help=f"with --dtype float16, default {PACKED[0]}")
    parser.add_argument("--only", choices=("vision", "language"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--skip-check", dest="check", action="store_false")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--prompts", default="1x286,1x1024,4x286", metavar="ROWSxTOKENS,…")
    parser.add_argument("--library", action="append", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    if options.weights and options.dtype != "float16":
        parser.error("--weights goes with --dtype float16")
    format = (options.weights or PACKED[0]) if options.dtype == "float16" and options.weights != "float16" else ""
    published = {**PUBLISHED, "visual": dict(PUBLISHED["visual"])}
    if options.small:
        published["num_hidden_layers"], published["visual"]["layers"] = 8, 12
    config = ModelConfig.from_dict(published)
    device = torch.cuda.get_device_properties(0)
    paths = dict(text.split("=", 1) for text in options.library) or {"": library_path()}
    print(f"{device.name}, {device.multi_processor_count} SMs, torch {torch.__version__}, {options.dtype}"
          f"{f' with weights in {format}' * bool(format)}, {', '.join(map(os.path.basename, paths.values()))}, "
          "random weights")
    torch.manual_seed(0)
    libraries, report = {name: Library(path) for name, path in paths.items()}, Report()
    with torch.no_grad():
        if options.only != "language":
            bench_vision(libraries, config, dtype, 1, report, options)
            bench_vision(libraries, config, dtype, 4, report, options)
        if options.only == "vision":
            return report.finish()
        language = Language(next(iter(libraries.values())), config, dtype, format)
        # The most rows of a rung first: it is timed with those (ops/product_timing.py), and fewer take what they chose.
        prompts = [tuple(map(int, text.split("x"))) for text in options.prompts.split(",")]
        for batch, seq, past in ((16, 1, 300), *((rows, tokens, 0) for rows, tokens in prompts)):
            language.prepare(batch, seq, 2048, past)
            runs = {name: language.launch(kernels) for name, kernels in libraries.items()}
            error = None
            if options.check and (batch, past) == (1, 0):
                next(iter(runs.values()))()
                error = language.error(seq)
            report.stage(f"language, batch {batch}, {seq} token(s), past {past}", runs,
                         language.flops(batch * seq, batch), options.repeats, error)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
