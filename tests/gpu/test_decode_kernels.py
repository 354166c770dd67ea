"""The decode kernel against the same step in fp32 PyTorch, its state rules, and its repeatability."""

from dataclasses import replace

import pytest

from tests.gpu.kernels import PACKED, STORED, need_gpu

need_gpu()
import torch  # noqa: E402

from tests.gpu.decode_harness import (  # noqa: E402
    Decoder,
    Geometry,
    decoder_of,
    load_library,
    make_state,
    make_weights,
    reference_step,
    relative_error,
    stored,
)

pytestmark = pytest.mark.gpu

HALF, BRAIN = "float16", "bfloat16"
LIMITS = {HALF: 2e-3, BRAIN: 1.6e-2}


@pytest.fixture(scope="module")
def library():
    torch.backends.cuda.matmul.allow_tf32 = False
    return load_library()


def geometry(hidden, layers, heads, mlp, vocab, dtype=HALF, **rest):
    return Geometry(hidden, layers, heads, mlp, vocab, dtype=getattr(torch, dtype), **rest)


TINY = dict(hidden=256, layers=2, heads=2, mlp=160, vocab=512)
CASES = {  # name -> geometry, positions
    "first token": (dict(TINY, slots=8), [0]),
    "tiny": (dict(TINY, slots=32), [17]),
    "tiny bfloat16": (dict(TINY, slots=32, dtype=BRAIN), [17]),
    "odd sizes": (dict(hidden=120, layers=3, heads=5, mlp=88, vocab=1003, slots=41, batch=3), [0, 40, 7]),
    "one head of 8": (dict(hidden=8, layers=1, heads=1, mlp=8, vocab=9, slots=300, batch=2), [299, 3]),
    "head of 256": (dict(hidden=512, layers=2, heads=2, mlp=520, vocab=700, slots=330, batch=2), [300, 329]),
    "head of 200 bfloat16": (dict(hidden=1000, layers=2, heads=5, mlp=600, vocab=700, slots=90, dtype=BRAIN), [64]),
    "batch 8": (dict(TINY, slots=320, batch=8), [0, 1, 16, 31, 32, 33, 300, 319]),
    "batch 11": (dict(TINY, slots=64, batch=11), list(range(3, 58, 5))),
    "wide": (dict(hidden=4096, layers=2, heads=32, mlp=11008, vocab=20000, slots=320), [300]),
    "wide bfloat16, batch 3": (dict(hidden=4096, layers=2, heads=32, mlp=11008, vocab=20000, slots=320, dtype=BRAIN,
                                    batch=3), [300, 1, 150]),
    "wide, batch 8": (dict(hidden=4096, layers=2, heads=32, mlp=11008, vocab=20000, slots=310, batch=8),
                      [300, 17, 0, 255, 256, 257, 128, 309]),
    "wide, few heads, batch 2": (dict(hidden=2560, layers=2, heads=20, mlp=6824, vocab=30011, slots=310, batch=2),
                                 [300, 17]),
    "log-n": (dict(hidden=1024, layers=2, heads=8, mlp=2752, vocab=5000, slots=2200, seq_length=2048, batch=2),
              [2100, 2047]),
}
PACKED_CASES = {  # of every packed format
    "least": (dict(hidden=256, layers=2, heads=2, mlp=384, vocab=520, slots=32), [17]),
    "batch 11": (dict(hidden=384, layers=3, heads=6, mlp=1152, vocab=296, slots=64, batch=11),
                 list(range(3, 58, 5))),
    "head of 256": (dict(hidden=512, layers=2, heads=2, mlp=640, vocab=704, slots=330, batch=2), [300, 329]),
    "wide": (dict(hidden=4096, layers=2, heads=32, mlp=11008, vocab=20008, slots=320), [300]),
    "wide, batch 8": (dict(hidden=4096, layers=2, heads=32, mlp=11008, vocab=20000, slots=310, batch=8),
                      [300, 17, 0, 255, 256, 257, 128, 309]),
    "wide, few heads, batch 2": (dict(hidden=2560, layers=2, heads=20, mlp=6912, vocab=30008, slots=310, batch=2),
                                 [300, 17]),
}
CASES |= {f"{format}, {name}": (dict(sizes, format=format), positions)
          for format in STORED for name, (sizes, positions) in PACKED_CASES.items()}
CASES |= {f"{format}, head in {head or HALF}": (dict(PACKED_CASES["least"][0], format=format, head=head), [17])
          for format in STORED for head in ("", PACKED[0]) if head != format}


@pytest.mark.parametrize("name", CASES)
def test_two_steps_match_the_reference(library, name):
    sizes, positions = CASES[name]
    g = geometry(**sizes)
    limit = LIMITS[sizes.get("dtype", HALF)]
    weights = make_weights(g)
    state = make_state(g, positions)
    decoder = decoder_of(library, g, stored(library, g, weights), state)
    rows = torch.arange(g.batch, device="cuda")
    for step in range(2 if max(positions) + 2 <= g.slots else 1):
        before = {key: tensor.clone() for key, tensor in state.items()}
        decoder.step()
        logits, keys, values = reference_step(g, weights, before)
        assert relative_error(state["logits"], logits) < limit
        slots = before["positions"].long()
        for cache, new in (("k_cache", keys), ("v_cache", values)):
            assert relative_error(state[cache][:, rows, :, slots].transpose(0, 1), new) < limit
            state_but_new = state[cache].clone()
            state_but_new[:, rows, :, slots] = before[cache][:, rows, :, slots]
            assert torch.equal(state_but_new.view(torch.int16), before[cache].view(torch.int16))
        chosen = state["logits"].argmax(1)
        assert torch.equal(state["next_tokens"][:, 0], chosen)
        assert torch.equal(state["generated"][:, step], chosen)
        assert torch.equal(state["positions"], before["positions"] + 1)
        assert torch.equal(state["counts"], before["counts"] + 1)
        assert not state["finished"].any()


def test_stop_tokens_finish_a_row_and_a_finished_row_stays_as_it_is(library):
    g = geometry(**TINY, batch=3, slots=40)
    weights = make_weights(g)
    state = make_state(g, [5, 9, 39], finished=[0, 0, 1])
    probe = {key: tensor.clone() for key, tensor in state.items()}
    Decoder(library, g, weights, probe).step()
    stop = int(probe["next_tokens"][1, 0])
    assert int(probe["next_tokens"][0, 0]) != stop
    state["stop_tokens"] = torch.tensor([-1, stop], device="cuda")
    decoder = Decoder(library, g, weights, state)
    decoder.step()
    assert state["finished"].tolist() == [0, 1, 1]
    assert state["counts"].tolist() == [1, 1, 0]
    assert state["positions"].tolist() == [6, 10, 39]
    frozen = {key: state[key][1:].clone() for key in ("next_tokens", "generated", "counts", "positions")}
    caches = {key: state[key][:, 1:].clone().view(torch.int16) for key in ("k_cache", "v_cache")}
    decoder.step()
    for key, tensor in frozen.items():
        assert torch.equal(state[key][1:], tensor)
    for key, tensor in caches.items():
        assert torch.equal(state[key][:, 1:].view(torch.int16), tensor)
    assert state["counts"].tolist() == [2, 1, 0]


def test_the_two_halves_of_a_step_are_the_step(library):
    g = geometry(**TINY, batch=3, slots=40)
    weights = make_weights(g)
    whole, halves = make_state(g, [5, 9, 30]), make_state(g, [5, 9, 30])
    Decoder(library, g, weights, whole).step()
    hidden_in = weights["token_embedding"][halves["next_tokens"][:, 0]].contiguous()
    hidden_out = torch.full_like(hidden_in, float("nan"))
    Decoder(library, g, weights, halves, hidden_in=hidden_in, hidden_out=hidden_out).step()
    assert halves["positions"].tolist() == [5, 9, 30] and halves["counts"].tolist() == [0, 0, 0]
    Decoder(library, replace(g, layers=0), weights, halves, hidden_in=hidden_out).step()
    assert relative_error(halves["logits"], whole["logits"]) < LIMITS[HALF]
    assert torch.equal(halves["k_cache"].view(torch.int16), whole["k_cache"].view(torch.int16))
    assert torch.equal(halves["v_cache"].view(torch.int16), whole["v_cache"].view(torch.int16))
    assert torch.equal(halves["next_tokens"][:, 0], halves["logits"].argmax(1))
    assert halves["positions"].tolist() == [6, 10, 31]


def test_a_step_that_leaves_the_choice_gives_logits_and_keeps_the_state(library):
    g = geometry(**TINY, batch=3, slots=40)
    weights = make_weights(g)
    whole, left = make_state(g, [5, 9, 30]), make_state(g, [5, 9, 30])
    Decoder(library, g, weights, whole).step()
    kept = {key: left[key].clone() for key in ("positions", "next_tokens", "generated", "counts", "finished")}
    decoder = Decoder(library, g, weights, left, leave_choice=True)
    for _ in range(2):  # nothing moved on, so a second step is the same step
        left["logits"].fill_(float("nan"))
        decoder.step()
        assert torch.equal(left["logits"], whole["logits"])
        for key, tensor in kept.items():
            assert torch.equal(left[key], tensor)
    assert torch.equal(left["k_cache"].view(torch.int16), whole["k_cache"].view(torch.int16))


def test_ties_go_to_the_lowest_index(library):
    g = geometry(**TINY, slots=8)
    weights = make_weights(g)
    weights["lm_head_weight"][:] = weights["lm_head_weight"][:1]
    state = make_state(g, [3])
    Decoder(library, g, weights, state).step()
    assert int(state["next_tokens"][0, 0]) == 0


@pytest.mark.parametrize(("batch", "format"), [(1, ""), (5, ""), *((1, format) for format in STORED)])
def test_a_thousand_steps_twice_give_the_same_tokens(library, batch, format):
    g = geometry(hidden=512, layers=4, heads=4, mlp=1408, vocab=3000, batch=batch, slots=1100, generated=1000,
                 format=format)
    weights = stored(library, g, make_weights(g))
    runs = []
    for _ in range(2):
        state = make_state(g, list(range(3, 3 + batch)))
        decoder = Decoder(library, g, weights, state)
        graph = decoder.graph()
        for _ in range(1000):
            graph.replay()
        runs.append((state["generated"].clone(), state["logits"].clone()))
    assert int(runs[0][0].min()) >= 0
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


def test_geometry_out_of_range_is_refused(library):
    g = geometry(hidden=264 * 2, layers=1, heads=2, mlp=64, vocab=64)
    weights, state = make_weights(g), make_state(g, [0])
    with pytest.raises(ValueError, match="does not support"):
        Decoder(library, g, weights, state)
