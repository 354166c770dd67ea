"""Runs beyond the plain one, over fake arms: half precision, arms in sequence, further cases, memory, deadline."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.arms import GATE_ARM
from bench.contest import Contest, Entry
from bench.device_memory import DeviceMemory
from bench.options import FurtherCases
from bench.report import display_frame, of_first_case
from bench.results import report
from bench.run import exit_status, further_cases, in_sequence, run, share_of_deadline
from bench.schema import Case, read_rows
from bench.stopping import OUT_OF_TIME
from bench.work import work
from core.config import ModelConfig
from export.synthetic import write_checkpoint
from ops import formats
from ops.weights import decode_bytes, weights_bytes
from tests.bench_options import fake_arms, short_options

ROOT = Path(__file__).parents[1]
PACKED = formats.packed("float16")[0]
EAGER = GATE_ARM


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("cases") / "tiny")


@pytest.fixture
def compete(checkpoint, tmp_path):
    """Run fake arms {name: options of FakeArm}; returns (rows, folder, lines of the diary). All know GATE_ARM."""
    def competed(arms, memory=None, **changes):
        diary = tmp_path / "diary"
        options = short_options(arms, **{"checkpoint": checkpoint, "out": str(tmp_path / "results"), **changes})
        folder, rows = run(options, ["bench"], specs=fake_arms({EAGER: {}, **arms}, diary), memory=memory)
        return rows, folder, diary.read_text().split() if diary.exists() else []
    return competed


def state(rows, arm, batch=1, new_tokens=4, stage="end_to_end"):
    (row,) = (row for row in rows if (row.arm, row.case.batch, row.case.new_tokens, row.stage) ==
              (arm, batch, new_tokens, stage))
    return row


@pytest.mark.parametrize("with_eager", [True, False])
def test_half_precision_is_judged_by_the_error_of_the_gate_arm(compete, with_eager):
    arms = {"good": {"half_error": 1.2e-3}, "bad": {"half_error": 2e-3}, **({EAGER: {}} if with_eager else {})}
    rows, folder, _ = compete(arms, dtype="float16")
    assert state(rows, "good").status == "ok"
    assert state(rows, "bad").status == "failed"
    assert "off by" in state(rows, "bad").reason
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert accuracy["reference"] == "torch-eager in float32"
    assert 0 < accuracy["scale"]["logits"] < accuracy["arms"]["good"]["logits"]["relative_error"]


def test_half_precision_without_a_reference_times_nothing(compete):
    rows, _, diary = compete({"a": {}, EAGER: {"trouble": "error at load"}}, dtype="float16")
    assert state(rows, "a").reason == "gate failed: there is no float32 reference to compare with" and not diary


def test_arms_in_sequence(compete):
    rows, folder, diary = compete({"a": {}, "b": {}}, sequential=True)
    assert diary == ["a", "a", "b", "b"]
    assert all(row.provenance["sequential"] and row.provenance["rounds"]["done"] == 2 for row in rows)
    assert "one arm after the other" in (folder / "table.md").read_text()


def test_rows_are_stored_after_every_arm_in_sequence(compete, monkeypatch):
    import bench.run
    stored = []
    monkeypatch.setattr(bench.run, "store_rows", lambda out, rows, accuracy: stored.append(
        {row.arm: row.status for row in rows if row.stage == "end_to_end"}))
    compete({"a": {}, "b": {}}, sequential=True)
    assert stored == [{"a": "ok", "b": "skipped"}, {"a": "ok", "b": "ok"}]


def test_an_arm_that_fails_first_does_not_end_a_run_over_stored_results(compete):
    _, folder, _ = compete({"a": {}, "b": {}}, sequential=True)
    rows, again, _ = compete({"a": {"trouble": "error at load"}, "b": {}}, sequential=True)
    assert again == folder and (state(rows, "a").status, state(rows, "b").status) == ("failed", "ok")
    assert read_rows(folder / "rows.jsonl") == rows


def test_further_cases(compete, tmp_path):
    rows, folder, diary = compete({"a": {}, "b": {}}, batches=[1, 2, 3], lengths=[1, 4, 9], case_rounds=1)
    cases = {(row.case.batch, row.case.new_tokens) for row in rows}
    assert cases == {(1, 4), (2, 4), (3, 4), (1, 1), (1, 9)} and (rows[0].case.batch, rows[0].case.new_tokens) == (1, 4)
    assert len(diary) == 2 * 2 + 2 * 4 * 2   # rounds, then a warm-up and a round for each case
    assert {row.status for row in rows if row.stage == "end_to_end"} == {"ok"}
    assert len(state(rows, "a", batch=3, stage="token").samples) == 1   # the mean of the pass's steps
    markdown = (folder / "cases.md").read_text()
    assert markdown.count("| a ") + markdown.count(" a |") >= 5 and (folder / "cases.csv").is_file()
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("cases.csv", "cases.md", "cases.png"):
        (folder / name).unlink()
    assert read_rows(folder / "rows.jsonl") == rows and [found for found, _ in report(tmp_path)] == [folder]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_case_that_does_not_fit_is_a_row_and_the_arm_goes_on(compete):
    rows, folder, _ = compete({"a": {"trouble": "memory at batch 2"}}, batches=[2, 3], case_rounds=1)
    assert state(rows, "a").status == "ok" and state(rows, "a", batch=3).status == "ok"
    row = state(rows, "a", batch=2)
    assert row.status == "oom" and "out of memory" in row.reason and row.reason in (folder / "cases.md").read_text()
    assert exit_status(rows) == 0


def test_case_in_which_the_arm_dies(compete):
    rows, _, _ = compete({"a": {"trouble": "killed at batch 2"}}, batches=[2, 3], case_rounds=1)
    assert state(rows, "a").status == "ok" and "SIGKILL" in state(rows, "a", batch=2).reason
    assert not [row for row in rows if row.case.batch == 3]


def test_rows_of_a_batch_must_be_the_single_row(compete):
    rows, folder, _ = compete({"a": {"trouble": "other rows"}}, batches=[2], case_rounds=1)
    assert state(rows, "a", batch=2).reason == "gate failed: token 1 of row 1 is 22, in the reference 15"
    agreement = json.loads((folder / "accuracy.json").read_text())["agreement"]
    assert list(agreement.values()) == [{"a": pytest.approx((1 + 0.25) / 2)}]


def test_only_the_named_arms_take_further_cases(compete):
    rows, _, _ = compete({"a": {}, "b": {}}, batches=[2], case_rounds=1, case_arms=["b"])
    assert {row.arm for row in rows if row.case.batch == 2} == {"b"}


def test_order_of_arms_in_sequence():
    entries = [Entry(name=name) for name in ("torch-compile", "torch-sdpa", "paddle-fused", EAGER)]
    assert [entry.name for entry, in in_sequence(entries)] == [EAGER, "torch-compile", "torch-sdpa", "paddle-fused"]


def test_device_memory(compete):
    used = iter([100.0, 500.0] + [1000.0] * 100_000)
    memory = DeviceMemory(lambda: (next(used), 80_000.0))
    rows, folder, _ = compete({"a": {}}, memory=memory, sequential=True)
    assert state(rows, "a", stage="device_memory").samples == [500.0]
    weights = rows[0].provenance["work"]["weights_bytes"] / 2**20
    assert state(rows, "a", stage="beyond_weights").samples == [500.0 - weights]
    assert "memory beyond the weights" in (folder / "table.md").read_text()


def test_an_arm_with_packed_weights_is_held_to_its_own_bytes(compete, checkpoint):
    used = iter([100.0, 500.0] + [1000.0] * 100_000)
    memory = DeviceMemory(lambda: (next(used), 80_000.0))
    config = ModelConfig.load(checkpoint)
    plain, packed = (decode_bytes(config, "float16", weights) for weights in ("", PACKED.name))
    assert packed < plain
    whole = weights_bytes(config, "float16", PACKED.name)
    told = {"weights": PACKED.name, "weights_bytes": whole, "decode_bytes": packed}
    rows, folder, _ = compete({"a": {"weights": told}, EAGER: {}}, memory=memory, sequential=True, dtype="float16",
                              lengths=[2], case_rounds=1)
    for arm, expected in (("a", packed), (EAGER, plain)):
        for length in (2, 4):
            assert state(rows, arm, new_tokens=length).provenance["work"]["decode_bytes"] == expected
    assert state(rows, "a").provenance["work"]["weights"] == PACKED.name
    assert "weights" not in state(rows, EAGER).provenance["work"]
    assert state(rows, "a").provenance["work"]["weights_bytes"] == weights_bytes(config, "float16")
    (used,) = state(rows, "a", stage="device_memory").samples
    assert state(rows, "a", stage="beyond_weights").samples == [used - whole / 2**20]
    assert f"a keeps the language model's matrices in {PACKED.description}: its decode step reads " \
        in (folder / "table.md").read_text()


def test_device_memory_that_cannot_be_read():
    def read():
        raise OSError("no driver")
    memory = DeviceMemory(read)
    memory.start()
    assert memory.source is None and memory.stop() is None


def test_deadline_begins_nothing_new(compete):
    rows, _, diary = compete({"a": {}}, deadline=1e-6)
    assert state(rows, "a").status == "skipped" and "--deadline" in state(rows, "a").reason and not diary


def test_case_budget_of_an_arm(compete):
    rows, _, _ = compete({"a": {}}, batches=[2, 3], lengths=[1, 2], case_rounds=1, case_budget=1e-6)
    assert state(rows, "a", batch=2).status == "ok"
    for other in ({"new_tokens": 1}, {"batch": 3}, {"new_tokens": 2}):
        row = state(rows, "a", **other)
        assert row.status == "skipped" and "--case-budget" in row.reason
    assert exit_status(rows) == 0


def test_batches_and_lengths_take_turns():
    case = Case("tiny", "float32", "cpu", 1, 290, 4)
    further = FurtherCases(batches=(1, 2, 3), lengths=(4, 8))
    assert [(other.batch, other.new_tokens) for other in further_cases(case, further)] == [(2, 4), (1, 8), (3, 4)]


def test_gpu_clock_and_cold_passes_are_stages(compete, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    rows, folder, _ = compete({EAGER: {"driver": "none"}, "a": {}}, device="gpu", dtype="float32", rounds=2, cold=2,
                              memory=DeviceMemory(lambda: (0.0, 80_000.0)), lengths=[2], case_rounds=1)
    # a span is its work and the 1 ms of the event that ends it; 3 steps of 4 ms
    expected = {"vision_gpu": [1.0] * 2, "prefill_gpu": [21.0] * 2, "token_gpu": [13 / 3] * 2,
                "vision_cold": [1.0] * 2, "prefill_cold": [21.0] * 2, "token_cold": [5.0] * 6}
    assert {stage: state(rows, EAGER, stage=stage).samples for stage in expected} == expected
    assert state(rows, EAGER, new_tokens=2, stage="token_gpu").samples == [5.0]
    assert not [row for row in rows if row.arm == "a" and row.stage in expected]
    assert state(rows, "a").provenance["versions"]["GPU clock"] == "not available: the arm does not name its stream"
    assert rows[0].provenance["versions"]["GPU clock"] == "CUDA events of the driver"
    text = (folder / "table.md").read_text()
    assert "decode / token, GPU clock, cold L2 (ms)" in text and "Cold L2: the cache was overwritten" in text


def test_arm_whose_driver_fails_is_timed_by_the_host(compete, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    rows, folder, _ = compete({EAGER: {"driver": "record"}}, device="gpu",
                              memory=DeviceMemory(lambda: (0.0, 80_000.0)))
    assert state(rows, EAGER).status == "ok" and not [row for row in rows if row.stage.endswith(("_gpu", "_cold"))]
    assert "GPU clock not available: record returned 1" in (folder / "table.md").read_text()


def test_several_variables_reach_the_arm(compete):
    rows, _, _ = compete({"a": {}}, environment={"torch": {"BENCH_A": "1:2", "BENCH_B": "x=y"}})
    assert rows[0].provenance["versions"]["variables"] == ["1:2", "x=y"]


def test_shares_of_limits_are_shown(compete):
    rows, _, _ = compete({"a": {}})
    case = rows[0].provenance["work"]
    token = state(rows, "a", stage="token")
    token.samples[:] = [2.0]   # ms
    for row in rows:
        row.provenance["ceilings"] = {"read_bytes_per_s": case["decode_bytes"] * 1000, "read_way": "loads",
                                      "vision_reason": "no such device"}
    frame = display_frame(of_first_case(rows))
    assert frame.loc["decode / token, share of limit", "a"].startswith("50 % (")
    assert "vision, share of limit" not in frame.index


def test_ceilings_without_a_device_say_why():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", "from bench.ceilings import Ceilings; import json; print(json.dumps("
                           "Ceilings().ceilings('/no/such/library.so', 'float16', {'vision': [[8, 8, 8]]})))"],
                          capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    found = json.loads(done.stdout)
    assert "/no/such/library.so" in found["read_reason"] and found["vision_reason"]


def test_work_of_the_published_model():
    config = ModelConfig.from_dict(json.loads((ROOT / "export" / "presets" / "7b.json").read_text()))
    found = work(Case("7b", "float16", "gpu", 1, 286, 32), config)
    assert found["weights_bytes"] / 1e9 == pytest.approx(19.3, abs=0.2)
    layers = 2 * 32 * (4 * 4096 ** 2 + 3 * 4096 * 11008)
    assert found["decode_bytes"] == pytest.approx(layers + 2 * 151936 * 4096, rel=1e-3)
    assert found["prefill_flops"] == pytest.approx(286 * layers, rel=0.02)
    matrices = layers + 2 * 151936 * 4096
    for format in formats.packed("float16"):
        saved = matrices - format.bytes([matrices // 2])
        assert decode_bytes(config, "float16", format.name) == found["decode_bytes"] - saved
        assert weights_bytes(config, "float16", format.name) == found["weights_bytes"] - saved


@pytest.mark.parametrize("total, sequential", [(1.0, True), (80_000.0, False)])
def test_arms_that_do_not_fit_together_run_in_sequence(compete, monkeypatch, total, sequential):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    rows, folder, _ = compete({EAGER: {}, "a": {}}, memory=DeviceMemory(lambda: (0.0, total)), device="gpu",
                              dtype="float16")
    assert state(rows, "a").status == "ok" and state(rows, "a").provenance["sequential"] is sequential
    assert ("device_memory" in {row.stage for row in rows}) is sequential
    ceilings = json.loads((folder / "machine.json").read_text())["ceilings"]
    assert "libqwen_vl_kernels.so" in ceilings["read_reason"] or "CUDA" in ceilings["read_reason"]
    assert f"No read limit: {ceilings['read_reason']}" in (folder / "table.md").read_text()


def test_each_arm_has_its_share_of_the_time_to_the_deadline(monkeypatch):
    monkeypatch.setattr("bench.run.time.monotonic", lambda: 110.0)
    # The first of three has loaded for 10 s, as the others will; 90 s are left after that.
    assert share_of_deadline(220.0, 100.0, 3) == pytest.approx((110 - 2 * 10) / 3)
    assert share_of_deadline(None, 100.0, 3) is None


def test_further_cases_begin_only_within_the_arms_share(tmp_path):
    with Contest(["a"], tmp_path, None, deadline=time.monotonic() + 1000) as contest:
        entry, = contest.entries
        assert not contest._no_time_for_cases(entry, 0)
        contest.share_ends = time.monotonic() - 1
        assert "share" in contest._no_time_for_cases(entry, 0)
        contest.deadline = time.monotonic() - 1
        assert contest._no_time_for_cases(entry, 0) == OUT_OF_TIME
