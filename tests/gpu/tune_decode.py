"""Which tuning of the decode kernel is fastest on this card, at the published 7B geometry with random weights.

    python -m tests.gpu.tune_decode [--batches 1,8] [--rounds 12] [--formats NAME,LAYERS+HEAD,…] [--library NAME=PATH …]

Candidates are compared in one process over the same memory, in an order drawn anew every round, since what lies where
and what ran before changes a step by more than tunings do. Prints each candidate's median step in milliseconds, its
spread over the rounds and its share of the card's read rate, the fastest first; the library's own choice is among them
twice, under two names: what lies between those two is noise.
"""

import argparse
import random
import statistics
from dataclasses import replace

import torch

from tests.gpu.bench_decode import FIRST_POSITION, in_format, milliseconds_of, read_rates
from tests.gpu.decode_harness import decoder_of, load_library, make_state, make_weights, open_library, stored
from tests.gpu.kernels import PACKED

STEPS = 16
ROWS = (24, 32, 40, 48, 56, 64, 72, 80, 96)       # in flight while a block multiplies
EXCHANGE = (16, 20, 24, 28, 32)                   # while blocks exchange results
AHEAD = (1024, 2048, 3072, 4096)                  # columns brought into L2


def tuning(rows, exchange, ahead=0):
    return dict(rows_in_flight=rows, rows_in_exchange=exchange, ahead_columns=ahead)


def candidates(libraries):
    """{name: (library, tuning or None)}"""
    library = libraries[-1][1]
    tunings = {name: (other, None) for name, other in libraries}
    tunings["own choice again"] = (library, None)
    for rows in ROWS:
        for exchange in EXCHANGE:
            if exchange <= rows:
                tunings[f"{rows} / {exchange}"] = (library, tuning(rows, exchange))
    tunings |= {f"own rows, {ahead} ahead": (library, tuning(0, 0, ahead)) for ahead in AHEAD}
    return tunings


def medians(tunings, g, weights, rounds):
    """{name: step times in ms, one a round}"""
    state, graphs, order = make_state(g, [FIRST_POSITION] * g.batch), {}, random.Random(0)
    workspace = None
    for name, (library, chosen) in tunings.items():
        decoder = decoder_of(library, g, weights, state, tuning=chosen)
        parts = getattr(decoder, "parts", [decoder])
        if workspace is None:
            workspace = torch.zeros(2 * len(parts), parts[0].workspace.numel(), dtype=torch.uint8, device="cuda")
        for part, memory in zip(parts, workspace.view(len(parts), -1)):
            part.workspace = memory[:part.workspace.numel()]
        graphs[name] = decoder.graph()
    times = {name: [] for name in graphs}
    for count in range(rounds + 1):
        for name in order.sample(sorted(graphs), len(graphs)):
            workspace.zero_()
            state["positions"].fill_(FIRST_POSITION)
            graphs[name].replay()
            milliseconds = milliseconds_of(lambda graph=graphs[name]: [graph.replay() for _ in range(STEPS)]) / STEPS
            if count:
                times[name].append(milliseconds)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--formats", default=f"{PACKED[0]},float16",
                        help="of the matrices; two with + between them: the layers' and that of lm_head")
    parser.add_argument("--few", action="store_true", help="the libraries' own choices only")
    parser.add_argument("--library", action="append", default=[], metavar="NAME=PATH", help="the last one is tuned")
    args = parser.parse_args()
    libraries = [(name, open_library(path)) for name, _, path in (text.partition("=") for text in args.library)]
    libraries = libraries or [("own choice", load_library())]
    tunings = candidates(libraries)
    if args.few:
        tunings = {name: value for name, value in tunings.items() if value[1] is None}
    best = 0
    for format in args.formats.split(","):
        model = in_format(format)
        weights = stored(libraries[-1][1], model, make_weights(model))
        if not best:
            best = max(read_rates(libraries[-1][1], weights["gate_up_weight"]).values())
            print(f"{torch.cuda.get_device_name()}, read rate {best / 1e12:.3f} TB/s", flush=True)
        for batch in map(int, args.batches.split(",")):
            g = replace(model, batch=batch)
            times = medians(tunings, g, weights, args.rounds)
            for name, milliseconds in sorted(times.items(), key=lambda item: statistics.median(item[1]))[:14]:
                middle = statistics.median(milliseconds)
                print(f"batch {batch} {format} {name:20s} {middle:.4f} [{min(milliseconds):.4f}.."
                      f"{max(milliseconds):.4f}] {g.weight_bytes / middle * 1e3 / best:6.1%}", flush=True)
            for name in (*dict(libraries), "own choice again"):
                print(f"  {name:24s} {statistics.median(times[name]):.4f}", flush=True)


if __name__ == "__main__":
    main()
