"""Times the decode kernel on the published 7B geometry with random weights.

    python -m tests.gpu.bench_decode [library ...]

First the card's own read rate; then, for matrices in each format that FORMATS names (default: as they are, and packed
without loss; LAYERS+HEAD where lm_head has another) and every library (default: built from ops/kernels), one check
against fp32 and the time of a step at about 300 tokens of context for each batch size of BATCHES, by replay of a CUDA
graph.
"""

import ctypes
import functools
import os
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

from tests.gpu.decode_harness import (
    Geometry,
    decoder_of,
    load_library,
    make_state,
    make_weights,
    open_library,
    reference_step,
    relative_error,
    stored,
)
from tests.gpu.kernels import PACKED

STEPS, REPEATS, FIRST_POSITION = 32, 7, 284
MODEL = Geometry(hidden=4096, layers=32, heads=32, mlp=11008, vocab=151936, slots=512, generated=64)
READ_WAYS = [("loads", 0, n) for n in (4, 8, 16)] + [("bulk", 1, n) for n in (1024, 2048, 4096, 8192, 16384, 32768)]


def in_format(text):
    """The model in a format that a command line names: of all matrices, or LAYERS+HEAD."""
    layers, _, head = text.partition("+")
    packed = {name: "" if name == "float16" else name for name in (layers, head)}
    return replace(MODEL, format=packed[layers], head=packed[head] if head else None)


def milliseconds_of(run):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def read_rates(library, buffer):
    """Bytes per second of every way to read `buffer`."""
    library.qwen_vl_read_rate.restype = ctypes.c_size_t
    library.qwen_vl_read_rate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p,
                                          ctypes.c_void_p]
    sink = torch.zeros(1, dtype=torch.int32, device="cuda")
    rates = {}
    stream = torch.cuda.current_stream().cuda_stream
    for name, way, piece in READ_WAYS:
        read = functools.partial(library.qwen_vl_read_rate, buffer.data_ptr(), buffer.numel() * buffer.element_size(),
                                 way, piece, sink.data_ptr(), stream)
        size = read()
        if size:
            milliseconds = statistics.median([milliseconds_of(read) for _ in range(REPEATS)])
            rates[f"{name} {piece}"] = size / milliseconds * 1e3
    return rates


def step_milliseconds(library, g, weights):
    """Median time of a step over STEPS steps that end near 300 + STEPS / 2 tokens of context."""
    state = make_state(g, [FIRST_POSITION] * g.batch)
    graph = decoder_of(library, g, weights, state).graph()

    def run():
        for _ in range(STEPS):
            graph.replay()

    times = []
    for _ in range(REPEATS + 1):
        state["positions"].fill_(FIRST_POSITION)
        times.append(milliseconds_of(run) / STEPS)
    return statistics.median(times[1:])


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    paths = [Path(path) for path in sys.argv[1:]]
    libraries = {path.stem: open_library(path) for path in paths} or {"default": load_library()}
    batches = [int(n) for n in os.environ.get("BATCHES", "1,8").split(",")]
    first = next(iter(libraries.values()))
    best = 0
    for text in os.environ.get("FORMATS", f"float16,{PACKED[0]}").split(","):
        model = in_format(text)
        weights = make_weights(model)
        given = stored(first, model, weights)
        if not best:
            rates = read_rates(first, weights["gate_up_weight"])
            print(torch.cuda.get_device_name())
            for name, rate in rates.items():
                print(f"read {name:12s} {rate / 1e12:.3f} TB/s", flush=True)
            best = max(rates.values())
            print(f"{'library':14s} {'weights':>10s} {'GB':>6s} {'batch':>5s} {'error':>8s} {'ms/step':>8s} "
                  f"{'TB/s':>6s} {'share':>6s} {'tokens/s':>9s}")
        for batch in batches:
            g = replace(model, batch=batch)
            logits, _, _ = reference_step(g, weights, make_state(g, [FIRST_POSITION] * batch))
            for name, library in libraries.items():
                state = make_state(g, [FIRST_POSITION] * batch)
                decoder_of(library, g, given, state).step()
                error = relative_error(state["logits"], logits)
                milliseconds = step_milliseconds(library, g, given)
                rate = g.weight_bytes / milliseconds * 1e3
                print(f"{name:14s} {text:>10s} {g.weight_bytes / 1e9:6.2f} {batch:5d} {error:8.1e} {milliseconds:8.3f} "
                      f"{rate / 1e12:6.3f} {rate / best:6.1%} {batch / milliseconds * 1e3:9.1f}", flush=True)


if __name__ == "__main__":
    main()
