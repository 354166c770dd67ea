"""What is timed on loading: the operators run with every count of rows, and timing is on meanwhile alone."""

import pytest

from core.placement import CPU
from infer.engine import Engine
from tests.operators import functional

from ops import library, product_timing  # isort: skip  (imports Paddle, which tests.operators prepares)

RUNGS = [16, 32, 64]


class Rung:
    """The C function; its types can be set."""

    def __call__(self, rows):
        return next((rung for rung in RUNGS if rung >= rows), RUNGS[-1])


class Kernels:
    """Stands in for the library of a GPU: its rungs, and a record of the switch."""

    def __init__(self):
        self.switched, self.qwen_vl_gemm_tuning, self.qwen_vl_gemm_rung = [], self.switch, Rung()

    def switch(self, on):
        self.switched.append(on)
        return 0


@pytest.fixture
def kernels(monkeypatch):
    """A model is tuned on the CPU, where the operators take the same arguments."""
    made = Kernels()
    monkeypatch.setattr(library, "kernels", lambda: made)
    for name in ("synchronize", "release_memory"):
        monkeypatch.setattr(product_timing.devices, name, lambda: None)
    return made


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the operators' first arguments, in order."""
    seen = []
    for name in ("vision_encoder", "decoder", "lm_head"):
        plain = getattr(functional, name)
        monkeypatch.setattr(functional, name, lambda *args, name=name, plain=plain, **options: (
            seen.append((name, *args[0].shape[:2])), plain(*args, **options))[1])
    return seen


@pytest.fixture(scope="module")
def model(exported_tiny):
    """(config, weights) of an engine."""
    engine = Engine(exported_tiny, CPU)
    return engine.config, engine.vision_graph.operator_weights() | engine.language_graph.operator_weights()


def test_every_rung_is_run(model, kernels, calls):
    product_timing.time_products(*model, "float32", CPU)
    images = [("vision_encoder", count, 3) for count in product_timing.IMAGES]
    assert calls == [*images, *(("decoder", 1, rung) for rung in RUNGS), ("lm_head", 1, RUNGS[0])]
    assert kernels.switched == [1, 0]


def test_one_graph_alone(model, kernels, calls):
    config, weights = model
    product_timing.time_products(config, {name: weights[name] for name in ("vision_encoder", "resampler")},
                                 "float32", CPU)
    assert {name for name, *_ in calls} == {"vision_encoder"}


def test_timing_ends_with_an_error(model, kernels, monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(functional, "decoder", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        product_timing.time_products(*model, "float32", CPU)
    assert kernels.switched == [1, 0]
