"""Time of the vision encoder, the resampler, the prefill and large-batch steps at the published 7B shapes.

    QWEN_VL_KERNELS=<library> python tests/gpu/bench_prefill.py [--dtype bfloat16] [--weights float16] [--small]
        [--skip-check] [--only language]

Weights are random. Each stage is first compared with torch (fp32, and the same dtype: the error may be 1.25 x torch's),
then captured into a CUDA graph and replayed; times are medians by CUDA events: of single replays after a pause (as in
a request that arrives now and then) and of replays back to back (where the card may reach its power limit and lower
its clock). The table of kernels is one replay seen by torch's profiler. --weights: how the language model's matrices
are stored; in E5M7 unless it says otherwise or the dtype is bfloat16. --small: a fourth of the layers.
"""

import argparse
import ctypes
import os
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
from tests.gpu.kernels import library_path
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


def replay_ms(graph, repeats, pause):
    """Median time of one replay in ms; the device idles for `pause` seconds before each, with 0 they queue up."""
    for _ in range(3):
        graph.replay()
    pairs = []
    for _ in range(repeats):
        if pause:
            torch.cuda.synchronize()
            time.sleep(pause)
        pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        pair[0].record()
        graph.replay()
        pair[1].record()
        pairs.append(pair)
    torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(second) for first, second in pairs)


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

    def stage(self, name, run, flops, repeats, error=None):
        graph = capture(run)
        paused, queued = replay_ms(graph, repeats, 0.02), replay_ms(graph, repeats, 0)
        kernels = kernel_table(graph)
        print(f"\n{name}: kernels of one replay (sum {sum(t for _, _, t in kernels):.3f} ms)")
        for kernel, calls, ms in kernels[:14]:
            print(f"  {ms:8.3f} ms {calls:5d} x {1000 * ms / calls:8.2f} us  {kernel[:100]}")
        self.rows.append((name, paused, queued, flops / paused / 1e9, error))

    def finish(self):
        print(f"\n{'stage':40s} {'paused ms':>10s} {'queued ms':>10s} {'TFLOP/s':>9s}  error (torch's)")
        for name, paused, queued, rate, error in self.rows:
            shown = "" if error is None else f"{error[0]:.2e} ({error[1]:.2e})"
            print(f"{name:40s} {paused:10.3f} {queued:10.3f} {rate:9.1f}  {shown}")
        bad = [name for name, *_, error in self.rows if error and not error[0] <= 1.25 * error[1]]
        print("correct" if not bad else f"WRONG: {', '.join(bad)}")
        return 1 if bad else 0


def bench_vision(kernels, config, dtype, images, report, options):
    v = config.visual
    encoder = reference.random_weights(vision_encoder_roles(config), dtype, 1)
    resampler = reference.random_weights(resampler_roles(config), dtype, 2)
    pixels = torch.randn(images, 3, v.image_size, v.image_size, device="cuda")
    x = torch.empty(images, v.patches, v.width, device="cuda", dtype=dtype)
    y = torch.empty(images, 256, v.output_dim, device="cuda", dtype=dtype)
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
    error = None
    if options.check and images == 1:
        run()
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
    report.stage(f"vision, {images} image(s)", run, flops, options.repeats, error)


class Language:
    """Weights and state of the language model, and its stages as one launch."""

    def __init__(self, kernels, config, dtype, e5m7):
        self.kernels, self.config, self.dtype, self.e5m7 = kernels, config, dtype, e5m7
        self.decoder = reference.random_weights(decoder_roles(config), dtype, 3)
        self.table = reference.random_weights(embedding_roles(config), dtype, 4)["token_embedding"]
        self.head = reference.random_weights(lm_head_roles(config), dtype, 5)
        self.stored = self.decoder, self.head
        if e5m7:
            self.decoder, self.head = map(reference.once_bfloat16, self.stored)
            self.stored = kernels.packed(self.decoder), kernels.packed(self.head)
        self.inv_freq = 10000.0 ** -(torch.arange(0, config.kv_channels, 2, device="cuda") / config.kv_channels)

    def prepare(self, batch, seq, capacity, past):
        c, code = self.config, DTYPES[self.dtype]
        ints = dict(dtype=torch.int32, device="cuda")
        longs = dict(dtype=torch.int64, device="cuda")
        self.tokens = torch.randint(0, c.vocab_size, (batch, seq), device="cuda")
        self.features = torch.randn(batch, 256, c.hidden_size, device="cuda").to(self.dtype)
        self.starts = torch.tensor([[b, 3] if seq > 258 else [-1, 0] for b in range(batch)], **ints)
        self.hidden = torch.empty(batch, seq, c.hidden_size, device="cuda", dtype=self.dtype)
        self.logits = torch.empty(batch, 1, c.vocab_size, device="cuda")
        shape = (c.num_hidden_layers, batch, c.num_attention_heads, capacity, c.kv_channels)
        self.caches = [torch.randn(shape, device="cuda", dtype=self.dtype) for _ in "kv"]
        self.positions = torch.full((batch,), past, **ints)
        lengths = torch.full((batch,), seq, **ints)
        embed = self.kernels.struct(
            "embedding", table=self.table, tokens=self.tokens, features=self.features,
            image_starts=self.starts, hidden=self.hidden, batch=batch, seq=seq,
            hidden_size=c.hidden_size, vocab=c.vocab_size, images=batch, features_per_image=256, dtype=code)
        decode = self.kernels.prepare_stage(
            "decoder_prefill", x=self.hidden, y=self.hidden, k_cache=self.caches[0], v_cache=self.caches[1],
            lengths=lengths, positions=self.positions, inv_freq=self.inv_freq.expand(batch, -1).contiguous(),
            **self.stored[0], e5m7=self.e5m7, batch=batch, seq=seq, tokens=batch * seq, hidden=c.hidden_size,
            layers=c.num_hidden_layers, heads=c.num_attention_heads, mlp_width=c.mlp_width, capacity=capacity,
            logn_length=c.seq_length, epsilon=EPSILON, dtype=code)
        head = self.kernels.prepare_stage(
            "lm_head", x=self.hidden, logit_columns=torch.full((batch, 1), seq - 1, **ints),
            lengths=torch.zeros(batch, **ints),  # positions stay, so that every replay is the same call
            stop_tokens=torch.full((1,), -1, **longs), **self.stored[1], e5m7=self.e5m7, logits=self.logits,
            positions=self.positions, next_tokens=torch.zeros(batch, 1, **longs),
            generated=torch.zeros(batch, 4, **longs), counts=torch.zeros(batch, **ints),
            finished=torch.zeros(batch, **ints), batch=batch, seq=seq, columns=1, hidden=c.hidden_size,
            vocab=c.vocab_size, stop_count=1, generated_slots=4, epsilon=EPSILON, dtype=code)

        def run():
            self.kernels.check(self.kernels.so.qwen_vl_embedding(ctypes.byref(embed), self.kernels.stream()))
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
    parser.add_argument("--weights", choices=("e5m7", "float16"), help="with --dtype float16, default e5m7")
    parser.add_argument("--only", choices=("vision", "language"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--skip-check", dest="check", action="store_false")
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    if options.weights and options.dtype != "float16":
        parser.error("--weights goes with --dtype float16")
    e5m7 = int(options.dtype == "float16" and options.weights != "float16")
    published = {**PUBLISHED, "visual": dict(PUBLISHED["visual"])}
    if options.small:
        published["num_hidden_layers"], published["visual"]["layers"] = 8, 12
    config = ModelConfig.from_dict(published)
    device = torch.cuda.get_device_properties(0)
    print(f"{device.name}, {device.multi_processor_count} SMs, torch {torch.__version__}, {options.dtype}"
          f"{' with E5M7 weights' * e5m7}, library {os.path.basename(library_path())}, random weights")
    torch.manual_seed(0)
    kernels, report = Library(), Report()
    with torch.no_grad():
        if options.only != "language":
            bench_vision(kernels, config, dtype, 1, report, options)
            bench_vision(kernels, config, dtype, 4, report, options)
        if options.only == "vision":
            return report.finish()
        language = Language(kernels, config, dtype, e5m7)
        for batch, seq, past in ((1, 286, 0), (1, 1024, 0), (4, 286, 0), (16, 1, 300)):
            run = language.prepare(batch, seq, 2048, past)
            error = None
            if options.check and (batch, past) == (1, 0):
                run()
                error = language.error(seq)
            report.stage(f"language, batch {batch}, {seq} token(s), past {past}", run,
                         language.flops(batch * seq, batch), options.repeats, error)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
