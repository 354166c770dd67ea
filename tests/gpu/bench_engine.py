"""Times decode steps of exported graphs, greedy and sampled, the first request of prompt lengths not seen before
against the next ones, and the host's work before a prefill is launched, and reads the device's memory with 2048
positions in use.

    python -m tests.gpu.bench_engine EXPORTED [--device gpu|cpu] [--steps 300] [--weights auto]

Memory is that of the whole device by nvidia-smi, without the weights' own bytes; a CPU has none to read.
"""

import argparse
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from bench.work import weights_bytes
from core.config import QUERIES
from core.placement import DTYPES, Placement
from infer.engine import Engine
from infer.image import default_image, load_image
from infer.sampling_parameters import Sampling

PROMPT, POSITIONS, WARM_UP = 286, 2048, 40
NEW_LENGTHS = (263, 300, 341, 420, 555, 700, 901)  # tokens, of no other prompt here
STARTS = 50  # timed generations of which only the host's work is done
KINDS = {"greedy": Sampling(), "temperature": Sampling(1.0, seed=3), "top_p": Sampling(1.0, 0.9, seed=1),
         "all filters": Sampling(0.8, 0.9, 50, 1.1, 4, 5)}


def begin(engine, features, prompt_tokens=PROMPT, new_tokens=WARM_UP, sampling=None):
    """A generation from a prompt of one image."""
    image = engine.config.visual.image_start_id
    prompt = [image, *[image + 2] * QUERIES, image + 1]  # <img>, <imgpad> …, </img>
    return engine.start([prompt + [1] * (prompt_tokens - len(prompt))], features, new_tokens, sampling=sampling)


def run(generation, steps):
    """Its prefill and `steps` decode steps; returns it, the device still at work."""
    generation.prefill()
    for _ in range(steps):
        generation.step()
    return generation


def host_milliseconds(engine, features, between):
    """The host's median times, (`start`, `prefill` until it would launch the graph), after `between` each time.

    Nothing is launched: what the graph leaves in the host's caches and does to the device is in neither.
    """
    graph, times = engine.language_graph, []
    for _ in range(STARTS):
        between()
        engine.synchronize()
        moments = [time.perf_counter()]
        generation = begin(engine, features)
        moments.append(time.perf_counter())
        graph.run = lambda moments=moments: moments.append(time.perf_counter())
        try:
            generation.prefill()
        finally:
            del graph.run  # the class's own
        times.append([(after - before) * 1e3 for before, after in zip(moments, moments[1:])])
    return [statistics.median(part) for part in zip(*times)]


def request_milliseconds(engine, features, prompt_tokens, count=6):
    """Times of requests of one length, from `start` to the first token."""
    times = []
    for _ in range(count):
        engine.synchronize()
        start = time.perf_counter()
        run(begin(engine, features, prompt_tokens, 1), 0).tokens()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def beyond_weights(engine):
    """MiB that nvidia-smi counts on the device beyond the bytes of both graphs' parameters, as they are kept there."""
    done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], check=True,
                          capture_output=True, text=True)
    return int(done.stdout.splitlines()[0]) - weights_bytes(engine.config, engine.dtype, engine.weights) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path)
    parser.add_argument("--device", choices=DTYPES, default="gpu")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--weights", default="auto", help="formats of the language model's matrices")
    args = parser.parse_args()
    engine = Engine(args.exported, Placement(args.device), args.weights)
    print(f"loaded in {engine.load_seconds:.2f} s, the language model's weights as {engine.weights}")
    features = engine.vision(engine.preprocess([load_image(default_image())]))
    if args.device == "gpu" and shutil.which("nvidia-smi"):
        for prompt in (PROMPT, POSITIONS - 4):
            run(begin(engine, features, prompt, POSITIONS - prompt), 3).tokens()
            print(f"prompt of {prompt}, {POSITIONS} positions: {beyond_weights(engine):.0f} MiB beyond the "
                  "weights")
    for length in NEW_LENGTHS:
        first, second, *later = request_milliseconds(engine, features, length)
        print(f"first token after {length} prompt tokens, a new length: {first:.2f} ms, next {second:.2f}, then "
              f"{statistics.median(later):.2f}")
    for words, between in (("again and again", lambda: None),
                           (f"after a generation of {WARM_UP} tokens",
                            lambda: run(begin(engine, features), WARM_UP - 1).tokens())):
        begun, launching = host_milliseconds(engine, features, between)
        print(f"host, {words}: start {begun:.3f} ms, prefill until its launch {launching:.3f} ms")
    for kind, sampling in KINDS.items():
        generation = run(begin(engine, features, PROMPT, WARM_UP + args.steps + 1, [sampling]), WARM_UP)
        engine.synchronize()
        start = time.perf_counter()
        for _ in range(args.steps):
            generation.step()
        engine.synchronize()
        print(f"{kind}: {(time.perf_counter() - start) / args.steps * 1e3:.3f} ms a step")


if __name__ == "__main__":
    main()
