"""The order of an arm's pass: what it asks of its framework, between which moments of the clocks."""

import numpy as np
import pytest

from tests.bench_fake_arm import FakeArm


class NotedArm(FakeArm):
    """Notes the calls of a pass, with what the stage before handed on."""

    def open(self, *args, **options):
        super().open(*args, **options)
        self.calls = []

    def vision(self, pixels):
        self.calls.append("vision")
        return super().vision(pixels)

    def start(self, features):
        self.calls.append("start")
        return "started"

    def generate(self, started):
        self.calls.append(f"generate {started}")
        return super().generate(started)

    def greedy_logits(self, started):
        self.calls.append(f"greedy_logits {started}")
        return super().greedy_logits(started)

    def renew_caches(self):
        self.calls.append("renew_caches")

    def synchronize(self):
        self.calls.append("synchronize")

    def begin(self, span):
        self.calls.append(f"begin {span}")
        super().begin(span)

    def end(self, span):
        self.calls.append(f"end {span}")
        super().end(span)


@pytest.fixture(params=["", "none"], ids=["cpu", "gpu"])
def arm(request, tmp_path):
    arm = NotedArm()
    arm.load("", "float32", "cpu", 1, driver=request.param)
    np.save(tmp_path / "image.npy", np.full([20, 30, 3], 128, np.uint8))
    arm.prepare(str(tmp_path / "image.npy"), [[1, 2, 3]], 2)
    arm.calls.clear()
    return arm


@pytest.mark.parametrize("cold", [False, True])
def test_the_host_prepares_a_generation_while_vision_runs(arm, cold):
    if cold and arm.clock is None:
        pytest.skip("a CPU has no cold passes")
    arm.measure(cold=cold)
    assert arm.calls[:arm.calls.index("begin prefill")] == [
        "synchronize", "synchronize", "begin vision", "vision", "end vision", "start", "synchronize",
        "generate started", "greedy_logits started"]


def test_so_does_the_published_pass(arm, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.arms.base.load_image", lambda _: arm.images[0])
    arm.published_pass("image.jpg", type("Tokenizer", (), {"decode": lambda _, row: ""})())
    assert arm.calls[:5] == ["synchronize", "renew_caches", "vision", "start", "generate started"]


def test_the_gate_starts_a_generation_as_a_timed_pass_does(arm):
    arm.outputs()
    assert arm.calls == ["vision", "start", "greedy_logits started"]
