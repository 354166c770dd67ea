"""Runs of several launches over fake arms: order, what belongs to which launch, the yardstick around the rounds."""

import pytest

from bench.contest import YARDSTICK, Contest
from bench.device_memory import DeviceMemory
from bench.plan import judged
from bench.process import Worker
from bench.run import MEMORY_SHARE, longest, measured
from bench.schema import DEVICE_STAGES, OTHERS
from bench.yardstick import SAMPLES, CpuYardstick, Quiet
from core.config import ModelConfig
from export.synthetic import write_checkpoint
from ops.weights import weights_bytes
from tests.bench_options import fake_arms, run_options, short_options


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture
def launched(checkpoint, tmp_path):
    """Measure fake arms {name: options of FakeArm}; returns (rows by arm and stage, lines of the diary)."""
    def run(arms, quiet=None, room=None, **changes):
        """room: launches whose weights the device has room for, of a verdict; None: no device that tells."""
        diary = tmp_path / "diary"
        options = short_options(arms, **{"checkpoint": checkpoint, "out": str(tmp_path), **changes})
        total = room and (room + 0.5) * len(arms) * weights_bytes(ModelConfig.load(checkpoint), "float32") / 2**20
        memory = room and DeviceMemory(lambda: (0.0, total / MEMORY_SHARE))
        rows, _ = measured(options, ["test"], specs=fake_arms(arms, diary), quiet=quiet, memory=memory,
                           for_verdict=room is not None)
        return {(row.arm, row.stage): row for row in rows}, diary.read_text().split()
    return run


def test_launches_take_turns_in_orders_that_are_reversed(launched):
    rows, diary = launched({"a": {}, "b": {}}, launches=3)
    assert diary == list("ab" + "ba" + "ba" + "ab" + "ab" + "ba")   # two rounds of each launch
    assert rows["a", "end_to_end"].launches == [2, 2, 2] and rows["a", "token"].launches == [2, 2, 2]
    assert rows["a", "load"].launches == [1, 1, 1] and rows["a", "end_to_end"].provenance["rounds"]["done"] == 6
    assert len(rows["a", "load"].provenance["launched"]) == 3


@pytest.fixture
def loading(monkeypatch):
    """A list that gets "begin" and "wait" whenever a worker's loading is begun or waited for."""
    steps = []
    begin, wait = Worker.begin, Worker.wait_answered

    def noted_begin(self, name, /, **args):
        if name == "load":
            steps.append("begin")
        begin(self, name, **args)

    def noted_wait(self):
        steps.append("wait")
        wait(self)
    monkeypatch.setattr(Worker, "begin", noted_begin)
    monkeypatch.setattr(Worker, "wait_answered", noted_wait)
    return steps


def test_launches_of_a_verdict_are_loaded_together_where_there_is_room(launched, loading):
    rows, diary = launched({"a": {}, "b": {}}, room=3, launches=4, quiet=Quiet(1e9))
    assert loading == ["begin"] * 6 + ["wait"] * 6 + ["begin"] * 2   # three launches of two arms, then one alone
    assert diary == list("abba" + "baab" + "abba" + "baab")          # each is measured by itself
    assert rows["a", "end_to_end"].launches == rows["b", "end_to_end"].launches == [2] * 4
    assert rows["a", "load"].launches == [1] * 4 and rows["a", "load"].provenance["loaded_together"] == 3
    assert rows[YARDSTICK, OTHERS].launches == [2] * 4


@pytest.mark.parametrize("room", [None, 1])
def test_launches_are_loaded_one_by_one_where_there_is_no_room(launched, loading, room):
    rows, _ = launched({"a": {}}, room=room, launches=3)
    assert loading == ["begin"] * 3 and rows["a", "load"].provenance["loaded_together"] == 1


@pytest.mark.parametrize("trouble, status", [("error at load", "failed"), ("memory at load", "oom"),
                                             ("killed at load", "failed"), ("killed at pass 2", "failed")])
def test_arm_that_fails_while_others_are_loaded(launched, monkeypatch, trouble, status):
    started, plain = [], Worker.__init__

    def noted(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        started.append(self)
    monkeypatch.setattr(Worker, "__init__", noted)
    rows, _ = launched({"a": {}, "b": {"trouble": trouble}}, room=3, launches=3)
    assert rows["b", "end_to_end"].status == status and rows["a", "end_to_end"].launches == [2, 2, 2]
    assert len(started) == 6 and all(worker.process.poll() is not None for worker in started)


def test_later_launches_are_held_to_the_tokens_of_the_first(launched):
    rows, _ = launched({"a": {}, "b": {"trouble": "changes its mind"}}, launches=2)
    assert rows["b", "end_to_end"].reason == "gate failed: a pass made other tokens than the compared one"
    assert rows["a", "end_to_end"].launches == [2, 2]


def test_arm_that_fails_once_is_not_launched_again(launched):
    rows, diary = launched({"a": {}, "b": {"trouble": "killed at pass 2"}}, launches=2)
    assert rows["b", "end_to_end"].status == "failed" and rows["b", "end_to_end"].launches == [1]
    assert diary.count("b") == 2 and rows["a", "end_to_end"].launches == [2, 2]


def test_interrupted_launch_keeps_its_rounds(launched, monkeypatch):
    plain, passes = Contest._pass, []

    def interrupted(self, entry, **args):
        passes.append(entry)
        if len(passes) == 4:
            raise KeyboardInterrupt
        return plain(self, entry, **args)
    monkeypatch.setattr(Contest, "_pass", interrupted)
    rows, _ = launched({"a": {}}, launches=3)
    assert rows["a", "end_to_end"].launches == [2, 1] and rows["a", "end_to_end"].provenance["rounds"]["interrupted"]


def test_no_launch_begins_that_would_not_end_in_time(launched, monkeypatch):
    known = []   # how many moments, that of the look among them: so the first launch counts when the second is due
    monkeypatch.setattr("bench.run.longest", lambda moments: known.append(len(moments)) or 600.0)
    rows, _ = launched({"a": {}}, launches=50, deadline=500)
    assert rows["a", "end_to_end"].launches == [2] and known == [1, 2]
    assert longest([0.0]) == 0 and longest([0.0, 3.0, 5.0]) == 3


def test_yardstick_is_read_around_every_round(launched):
    rows, _ = launched({"a": {}}, quiet=Quiet(1e9), launches=2)
    for stage in DEVICE_STAGES:
        assert rows[YARDSTICK, stage].launches == [2 * 2 * SAMPLES] * 2 and min(rows[YARDSTICK, stage].samples) > 0
    assert rows[YARDSTICK, OTHERS].launches == [2, 2] and rows[YARDSTICK, OTHERS].unit == "cores"
    assert "numpy" in rows[YARDSTICK, OTHERS].provenance["versions"]


@pytest.mark.parametrize("patience, looks", [(600, [True, False, False, True, True]), (0, [False, False, False])])
def test_round_waits_for_a_quiet_device_but_not_for_ever(launched, monkeypatch, patience, looks):
    left = list(looks)
    monkeypatch.setattr(Quiet, "is_quiet", lambda self, stages: left.pop(0))
    monkeypatch.setattr("bench.contest.SETTLING", patience)
    monkeypatch.setattr("bench.contest.LOOKING", 0.0)
    rows, _ = launched({"a": {}}, quiet=Quiet(0.1), rounds=3)
    assert not left and rows["a", "end_to_end"].launches == [3]


def test_quiet_is_near_the_best_so_far_or_that_of_a_baseline():
    times = {"device_read": [2.0, 9.0], "device_matrix": [4.0]}
    quiet = Quiet(0.1)
    assert quiet.is_quiet({"device_read": [3.0], "device_matrix": [5.0]}) and quiet.is_quiet(times)
    assert not quiet.is_quiet({**times, "device_read": [2.3]}) and quiet.is_quiet({**times, "device_read": [9.0, 2.1]})
    fixed = Quiet(0.1, {"device_read": 2.0, "device_matrix": 4.0})
    assert fixed.is_quiet({"device_read": [1.0], "device_matrix": [4.0]}) and fixed.best["device_read"] == 2.0


def test_cpu_yardstick_times_both():
    yardstick = CpuYardstick()
    assert "numpy" in yardstick.prepare(dtype="float32", shapes=[])
    stages = yardstick.measure()["stages"]
    assert set(stages) == set(DEVICE_STAGES) and all(len(times) == SAMPLES for times in stages.values())


def test_machine_is_looked_at_during_rounds_alone(launched, monkeypatch):
    moments = []
    for name in ("resume", "pause"):
        plain = getattr(__import__("bench.conditions", fromlist=["Sampler"]).Sampler, name)
        monkeypatch.setattr("bench.conditions.Sampler." + name,
                            lambda self, name=name, plain=plain: (moments.append(name), plain(self))[1])
    rows, _ = launched({"a": {}}, launches=2)
    assert moments == ["resume", "pause"] * 2 + ["pause"]
    assert rows["a", "load"].provenance["during"]["looks"] == 4


def test_what_a_verdict_needs_by_device():
    for device in ("cpu", "gpu"):
        limits = judged(run_options(device=device, launches=0, rounds=0)).limits
        assert limits.launches >= 10 and limits.rounds >= 5 and limits.deadline <= 220 and not limits.cold
    assert judged(run_options(launches=7, rounds=3, deadline=9.0)).limits.launches == 7
