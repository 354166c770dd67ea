"""No wait of the decode kernel is without end, however late a warp comes and however full its ring is. One that were is
given up, and the process goes on.

The delays are in a library of their own, built from the same sources (tests.gpu.kernels.delayed_library_path).
"""

import ctypes
import itertools
import os
import subprocess
import sys

import pytest

from tests.gpu.kernels import ROOT, STORED, delayed_library_path, need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu.decode_harness import (  # noqa: E402
    GAVE_UP,
    Decoder,
    Geometry,
    load_library,
    make_state,
    make_weights,
    open_library,
    stored,
)

pytestmark = pytest.mark.gpu

STEPS = 12
# Blocks take 19 or 20 pairs of gate and up rows: whole groups of 16, then many stages of three or four rows, of which
# some warps have none.
TAILS = dict(hidden=2048, heads=16, mlp=2512, vocab=4003, slots=64, generated=STEPS)
PACKED_TAILS = [dict(TAILS, mlp=2560, vocab=4000, format=format) for format in STORED]
DEPTHS = [(3, 8), (3, 16), (4, 4), (5, 40), (8, 64), (24, 8), (24, 52), (24, 192)]  # stages (or all there are), rows


@pytest.fixture(scope="module")
def library():
    return load_library()


@pytest.fixture(scope="module")
def delayed():
    return open_library(delayed_library_path())


def run(library, g, weights, positions, tuning=None, steps=STEPS):
    """(tokens, last logits, caches) after `steps` steps."""
    state = make_state(g, positions)
    decoder = Decoder(library, g, weights, state, tuning=tuning)
    for _ in range(steps):
        decoder.step()
    torch.cuda.synchronize()
    assert library.qwen_vl_gave_up() == 0, library.qwen_vl_status_text(GAVE_UP).decode()
    return state["generated"], state["logits"], state["k_cache"].view(torch.int16), state["v_cache"].view(torch.int16)


def tuned(stages, rows):
    return dict(ring_stages=stages, rows_in_flight=rows, rows_in_exchange=max(rows // 2, 1), ahead_columns=1024)


@pytest.mark.parametrize("sizes", [TAILS, dict(TAILS, dtype=torch.bfloat16), *PACKED_TAILS],
                         ids=["float16", "bfloat16", *STORED])
@pytest.mark.parametrize("layers", [1, 4])
def test_every_depth_of_the_ring_gives_the_same_tokens_with_warps_that_are_late(library, delayed, sizes, layers):
    for batch in range(1, 9):
        g = Geometry(layers=layers, batch=batch, **sizes)
        weights, positions = stored(library, g, make_weights(g)), [(7 * row) % 40 for row in range(batch)]
        expected = run(library, g, weights, positions)
        for depth in DEPTHS:
            got = run(delayed, g, weights, positions, tuned(*depth))
            assert all(map(torch.equal, expected, got)), (batch, depth)


@pytest.mark.parametrize(("heads", "hidden"), [(40, 320), (5, 320), (8, 1024), (4, 1024)],
                         ids=["head of 8", "head of 64", "head of 128", "head of 256"])
def test_every_head_width_through_32_layers_with_warps_that_are_late(library, delayed, heads, hidden):
    for batch, (dtype, format) in itertools.product((1, 8), ((torch.float16, ""), (torch.bfloat16, ""),
                                                             *((torch.float16, format) for format in STORED))):
        if format and (hidden % 128 or hidden // heads % 16):
            continue
        g = Geometry(hidden=hidden, layers=32, heads=heads, mlp=2560, vocab=504, batch=batch, slots=64, dtype=dtype,
                     generated=STEPS, format=format)
        weights, positions = stored(library, g, make_weights(g)), [(7 * row) % 40 for row in range(batch)]
        expected = run(library, g, weights, positions)
        for depth in ((3, 8), (24, 192)):
            got = run(delayed, g, weights, positions, tuned(*depth))
            assert all(map(torch.equal, expected, got)), (batch, dtype, format, depth)


def test_a_wait_without_end_is_given_up_named_and_the_process_goes_on(library):
    g = Geometry(hidden=256, layers=2, heads=2, mlp=160, vocab=512, batch=2, generated=STEPS)
    weights = make_weights(g)
    expected = run(library, g, weights, [3, 9])
    state = make_state(g, [3, 9])
    decoder = Decoder(library, g, weights, state)
    decoder.workspace[128:132].view(torch.int32).fill_(1 << 20)  # blocks that will never come
    decoder.step()
    torch.cuda.synchronize()
    assert library.qwen_vl_gave_up() == GAVE_UP
    text = library.qwen_vl_status_text(GAVE_UP).decode()
    assert "without end" in text and "all blocks of the grid" in text
    assert library.qwen_vl_gave_up() == 0
    assert all(map(torch.equal, expected, run(library, g, weights, [3, 9])))


OTHER = """
import sys
import torch
from tests.gpu.decode_harness import Decoder, Geometry, make_state, make_weights, open_library
g = Geometry(hidden=2048, layers=8, heads=16, mlp=2512, vocab=4003, batch=8, slots=64, generated=64)
library, state = open_library(sys.argv[1]), make_state(g, [3] * 8)
decoder = Decoder(library, g, make_weights(g), state)
print("begun", flush=True)
for _ in range(2000):
    state["positions"].fill_(3)
    decoder.step()
torch.cuda.synchronize()
print("gave up" if library.qwen_vl_gave_up() else "done", flush=True)
"""


def test_two_processes_on_one_card_at_once(library):
    g = Geometry(hidden=2048, layers=8, heads=16, mlp=2512, vocab=4003, batch=8, slots=64, generated=STEPS)
    weights = make_weights(g)
    expected = run(library, g, weights, [3] * 8)
    other = subprocess.Popen([sys.executable, "-c", OTHER, library._name], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert other.stdout.readline() == "begun\n"
    runs = 0
    while other.poll() is None or runs == 0:
        assert all(map(torch.equal, expected, run(library, g, weights, [3] * 8)))
        runs += 1
    assert other.stdout.read() == "done\n" and other.returncode == 0


def test_a_ring_that_is_too_shallow_is_refused(library):
    g = Geometry(hidden=256, layers=1, heads=2, mlp=160, vocab=512)
    with pytest.raises(ValueError, match="does not support"):
        Decoder(library, g, make_weights(g), make_state(g, [0]), tuning=dict(ring_stages=2))


def test_what_is_reported_names_waits_blocks_and_threads(library):
    words = library.qwen_vl_wait_words
    words.restype = ctypes.POINTER(ctypes.c_uint64)
    words()[4], words()[0] = 1 << 63 | 131 << 16 | 259, 1 << 63 | 7 << 16 | 300
    assert library.qwen_vl_gave_up() == GAVE_UP
    assert library.qwen_vl_status_text(GAVE_UP).decode() == (
        "block 7, thread 300 waited without end for copies on their way; "
        "block 131, thread 259 waited without end for results of other blocks")
    assert library.qwen_vl_gave_up() == 0
