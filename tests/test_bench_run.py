"""A whole run over fake arms: order, gate, rows with reasons, exit status, what is found before anything starts."""

import json
import shlex
import time

import pytest

from bench import process
from bench.contest import Contest
from bench.run import exit_status, run
from bench.schema import OPTIONAL, read_rows
from bench.schema import STAGES as ALL_STAGES
from core.errors import UserError
from export.synthetic import write_checkpoint
from tests.bench_options import fake_arms, short_options

STAGES = [stage for stage in ALL_STAGES if stage not in OPTIONAL]
ARGV = ["python", "-m", "bench", "run"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture
def compete(checkpoint, tmp_path):
    """Run fake arms {name: options of FakeArm}; returns (rows by arm and stage, folder, lines of the diary)."""
    def competed(arms, memory=None, **changes):
        diary = tmp_path / "diary"
        options = short_options(arms, **{"checkpoint": checkpoint, "out": str(tmp_path / "results"), "rounds": 3,
                                         **changes})
        folder, rows = run(options, ARGV, specs=fake_arms(arms, diary), memory=memory)
        return ({(row.arm, row.stage, *([row.case] if row.case != rows[0].case else [])): row for row in rows}, folder,
                diary.read_text().split() if diary.exists() else [])
    return competed


def test_rounds_are_interleaved_and_samples_kept_in_order(compete):
    rows, folder, diary = compete({"a": {}, "b": {}}, warmup=1)
    assert diary == list("ab" + "ab" + "ab" + "ba" + "ab")   # first run, warm-up, rounds
    assert len(rows) == 2 * len(STAGES) + 2 * 2   # and the first run and end to end without preprocess
    assert len(rows["a", "first_run"].samples) == 1
    assert all(row.status == "ok" for row in rows.values())
    assert {stage: len(rows["a", stage].samples) for stage in STAGES} == {
        "preprocess": 3, "vision": 3, "prefill": 3, "ttft": 3, "token": 3, "decode": 3, "end_to_end": 3, "load": 1,
        "peak_memory": 1}
    assert exit_status(list(rows.values())) == 0
    assert folder.name == f"tiny-float32-cpu-b1-p{rows['a', 'load'].case.prompt_tokens}-n4"


def test_results_folder(compete):
    rows, folder, _ = compete({"a": {}, "b": {"offset": 1e-9}})
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy.json", "bencher.json", "github-action-benchmark.json", "machine.json", "rows.csv", "rows.jsonl",
        "stages.png", "table.csv", "table.md"]
    assert read_rows(folder / "rows.jsonl") == list(rows.values())
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert accuracy["reference"] == "a" and accuracy["arms"]["b"]["passed"]
    assert (folder / "stages.png").read_bytes().startswith(b"\x89PNG")


def test_conditions_are_in_every_row(compete):
    rows, _, _ = compete({"a": {}}, threads=1)
    for row in rows.values():
        conditions = row.provenance
        assert conditions["argv"] == ARGV and conditions["threads"] == 1
        assert conditions["checkpoint"]["synthetic"] is True and len(conditions["checkpoint"]["hash"]) == 32
        assert conditions["rounds"] == {"asked": 3, "budget_s": 45, "done": 3, "warmup": 0, "warm": False,
                                        "stopped": "rounds", "interrupted": False}
        assert conditions["versions"]["fake"] and conditions["image"]["name"] == "grace_hopper.jpg"


def test_planted_difference_is_caught_before_timing(compete):
    rows, folder, diary = compete({"a": {}, "b": {"offset": 1e-3}})
    assert diary == ["a"] * 3
    row = rows["b", "end_to_end"]
    assert row.status == "failed" and row.reason.startswith("gate failed: logits differ by") and not row.samples
    assert rows["a", "end_to_end"].status == "ok"
    assert exit_status(list(rows.values())) == 1
    accuracy = json.loads((folder / "accuracy.json").read_text())["arms"]["b"]
    assert accuracy["logits"]["max_abs_difference"] == pytest.approx(0.031, rel=0.01)
    assert "gate failed" in (folder / "table.md").read_text()


def test_other_tokens_in_a_timed_pass_fail_the_gate(compete):
    rows, _, _ = compete({"a": {}, "b": {"trouble": "changes its mind"}})
    assert rows["b", "end_to_end"].reason.startswith("gate failed: a pass made other tokens")


@pytest.mark.parametrize("trouble, status", [("error at load", "failed"), ("memory at load", "oom"),
                                             ("killed at load", "failed")])
def test_arm_that_fails_is_a_row_with_its_reason(compete, trouble, status):
    rows, _, _ = compete({"a": {"trouble": trouble}, "b": {}})
    for stage in STAGES:
        assert rows["a", stage].status == status and rows["a", stage].reason
    assert rows["b", "end_to_end"].status == "ok"
    assert exit_status(list(rows.values())) == (1 if status == "failed" else 0)


def test_arm_that_dies_late_keeps_its_samples(compete):
    rows, _, diary = compete({"a": {}, "b": {"trouble": "killed at pass 3"}})
    row = rows["b", "end_to_end"]
    assert row.status == "failed" and "SIGKILL" in row.reason and len(row.samples) == 2
    assert len(rows["a", "end_to_end"].samples) == 3


def test_arm_that_hangs_is_ended_at_the_deadline_and_the_others_are_reported(compete, monkeypatch):
    measured = Contest._pass

    def the_deadline_comes(self, entry):
        if entry.name == "b" and entry.rounds == 1:
            entry.worker.deadline = time.monotonic()
        return measured(self, entry)
    monkeypatch.setattr(process, "LAST_CALL_SECONDS", 0)
    monkeypatch.setattr(Contest, "_pass", the_deadline_comes)
    rows, folder, _ = compete({"a": {}, "b": {"trouble": "hangs at pass 2"}, "c": {}})
    row = rows["b", "end_to_end"]
    assert row.status == "failed" and row.reason == "no answer by the deadline of the run: it was ended"
    assert len(row.samples) == 1 and all(rows[arm, "end_to_end"].status == "ok" for arm in "ac")
    assert "no answer by the deadline of the run" in (folder / "table.md").read_text()
    assert exit_status(list(rows.values())) == 1


def test_every_worker_knows_the_deadline_of_the_run(compete, monkeypatch):
    known = []
    loaded = Contest.load

    def load(self, entry, *args):
        known.append(entry.worker.deadline - self.deadline)
        return loaded(self, entry, *args)
    monkeypatch.setattr(Contest, "load", load)
    compete({"a": {}, "b": {}}, deadline=1000)
    assert known == [0, 0]


def test_arm_without_weights_is_skipped(compete):
    rows, _, _ = compete({"a": {}, "b": {"source": "exported_fused"}, "c": {"source": "exported_native"}},
                         exported_native="/no/such/folder")
    assert rows["b", "load"].status == "skipped" and "--exported-fused" in rows["b", "load"].reason
    assert rows["c", "load"].status == "skipped" and rows["c", "load"].reason.startswith("…/folder does")
    assert exit_status(list(rows.values())) == 0


def test_longer_prompt(compete):
    plain = compete({"a": {}})[0]["a", "load"].case.prompt_tokens
    row = compete({"a": {}}, prompt_tokens=plain + 30)[0]["a", "end_to_end"]
    assert row.case.prompt_tokens == plain + 30 and row.status == "ok"
    with pytest.raises(UserError, match=f"the prompt has {plain}, and only more"):
        compete({"a": {}}, prompt_tokens=plain - 1)


def test_one_new_token_has_no_decode(compete):
    rows, _, _ = compete({"a": {}}, new_tokens=1)
    assert rows["a", "decode"].status == "skipped" and rows["a", "end_to_end"].status == "ok"


def test_interrupted_run_keeps_its_rounds(compete, monkeypatch):
    measured = Contest._pass

    def interrupted(self, entry):
        if entry.rounds == 2:
            raise KeyboardInterrupt
        return measured(self, entry)
    monkeypatch.setattr(Contest, "_pass", interrupted)
    rows, folder, _ = compete({"a": {}})
    assert len(rows["a", "end_to_end"].samples) == 2
    assert "2 rounds of 3, interrupted" in (folder / "table.md").read_text()
    assert rows["a", "end_to_end"].provenance["rounds"]["stopped"] == "interrupted"
    assert exit_status(list(rows.values())) == 130


@pytest.mark.parametrize("changes, message", [
    ({"out": "/proc/results"}, "cannot write to /proc/results"),
    ({"image": "/no/such.jpg"}, "no such image"),
    ({"prompt": "<img>open"}, "unclosed image tag"),
    ({"new_tokens": 100_000}, "shorten the prompt"),
    ({"checkpoint": "/no/such"}, "no checkpoint folder /no/such"),
])
def test_bad_requests_are_found_before_anything_starts(compete, changes, message):
    diary_of_nothing = {"a": {"trouble": "error at load"}}
    with pytest.raises(UserError, match=message):
        compete(diary_of_nothing, **changes)


def test_exports_of_other_weights_are_refused(compete, tmp_path):
    folder = tmp_path / "it's" / "vision"
    folder.mkdir(parents=True)
    manifest = {"checkpoint": {"hash": "0" * 32, "synthetic": True}, "dtype": "float32", "impl": "fused"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="different weights") as caught:
        compete({"a": {}}, exported_fused=str(folder.parent))
    command = shlex.split(str(caught.value).partition("`")[2].rpartition("`")[0])
    assert command[:4] == ["python", "-m", "export", "vision"] and command[5] == str(folder.parent)
    assert command[6:] == ["--dtype", "float32", "--impl", "fused"]


def test_stock_graphs_of_other_weights_are_refused(compete, tmp_path):
    folder = tmp_path / "stock-float16" / "language"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"checkpoint": {"hash": "0" * 32}, "impl": "stock"}))
    with pytest.raises(UserError, match="run `make export-stock` with the same CKPT="):
        compete({"a": {}}, exported_stock=str(folder.parent))
