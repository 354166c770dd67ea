"""A thousand decode steps at every batch and width of the published 7B geometry, several times.

    python -m tests.gpu.soak_decode [--times 3] [--steps 1000]

Ends with status 1 where a wait was given up or the tokens of two times differ; prints a line for each batch and width.
"""

import argparse
import sys
import time
from dataclasses import replace

import torch

from tests.gpu.bench_decode import FIRST_POSITION, MODEL
from tests.gpu.decode_harness import GAVE_UP, Decoder, load_library, make_state, make_weights, stored
from tests.gpu.kernels import PACKED

ROUND = 32  # steps from one position on, which are then taken anew over the same cache slots


def tokens_of(library, g, weights, steps):
    """Every token of `steps` steps from the same state, rounded up to whole rounds: [batch, steps]."""
    state, tokens = make_state(g, [FIRST_POSITION] * g.batch), []
    graph = Decoder(library, g, weights, state).graph()
    for _ in range(-(-steps // ROUND)):
        state["positions"].fill_(FIRST_POSITION)
        state["counts"].zero_()
        for _ in range(ROUND):
            graph.replay()
        torch.cuda.synchronize()
        if library.qwen_vl_gave_up():
            sys.exit(f"error: {library.qwen_vl_status_text(GAVE_UP).decode()}")
        tokens.append(state["generated"][:, :ROUND].clone())
    return torch.cat(tokens, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    library, packed_model = load_library(), replace(MODEL, format=PACKED[0])
    weights = make_weights(packed_model)
    packed = stored(library, packed_model, weights)
    for batch in range(1, 9):
        for model, given in ((MODEL, weights), (packed_model, packed)):
            g, begun = replace(model, batch=batch), time.monotonic()
            first, *others = (tokens_of(library, g, given, args.steps) for _ in range(args.times))
            if not all(torch.equal(first, other) for other in others):
                sys.exit(f"error: batch {batch}, {g.bits} bits: tokens differ")
            print(f"batch {batch}, {g.bits} bits: {args.times} times {first.shape[1]} steps, the same "
                  f"tokens, {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
