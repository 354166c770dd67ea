"""Every pass is judged, of every case, in half precision as well: one wrong pass and the figures are not shown."""

import json

import pytest

from bench.arms import GATE_ARM, ArmSpec
from bench.run import exit_status, run
from export.synthetic import write_checkpoint
from tests.bench_options import run_options

FAKE = "tests.bench_fake_arm:FakeArm"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint("tiny", tmp_path_factory.mktemp("passes") / "tiny")


@pytest.fixture
def compete(checkpoint, tmp_path):
    """Run fake arms {name: (options of FakeArm, of ArmSpec)}: ({(arm, batch, new tokens): its end-to-end row}, rows,
    accuracy)."""
    def competed(arms, **changes):
        specs = {name: ArmSpec(name, "torch", FAKE, "checkpoint", {"name": name, **options}, **spec)
                 for name, (options, spec) in {GATE_ARM: ({}, {}), **arms}.items()}
        options = run_options(**{"checkpoint": checkpoint, "out": str(tmp_path / "results"), "arms": tuple(specs),
                                 "new_tokens": 4, "rounds": 3, "warmup": 0, "new_lengths": 0, "case_rounds": 3,
                                 **changes})
        folder, rows = run(options, ["bench"], specs=specs)
        ends = {(row.arm, row.case.batch, row.case.new_tokens): row for row in rows if row.stage == "end_to_end"}
        return ends, rows, json.loads((folder / "accuracy.json").read_text())
    return competed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("trouble", ["changes its mind", "wrong in pass 2"])
def test_a_wrong_pass_of_the_gated_case_fails_the_arm(compete, dtype, trouble):
    ends, rows, _ = compete({"a": ({"trouble": trouble}, {})}, dtype=dtype)
    assert ends["a", 1, 4].status == "failed" and ends["a", 1, 4].reason.startswith("gate failed: ")
    assert ends[GATE_ARM, 1, 4].status == "ok" and exit_status(rows) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_first_run_is_judged_as_well(compete, dtype):
    ends, _, _ = compete({"a": ({"trouble": "wrong in pass 1"}, {})}, dtype=dtype, warmup=1)
    assert ends["a", 1, 4].reason.startswith("gate failed: ") and not ends["a", 1, 4].samples


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("wrong", [4, 6])   # three rounds of the gated case, then a first run and three rounds
def test_a_wrong_pass_of_a_further_case_fails_that_case(compete, dtype, wrong):
    ends, rows, _ = compete({"a": ({"trouble": f"wrong in pass {wrong}"}, {})}, dtype=dtype, batches=(2,))
    assert ends["a", 2, 4].status == "failed" and "token 0 of row 0" in ends["a", 2, 4].reason
    assert ends["a", 1, 4].status == "ok" and ends[GATE_ARM, 2, 4].status == "ok" and exit_status(rows) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_rows_of_a_batch_are_judged(compete, dtype):
    ends, _, accuracy = compete({"a": ({"trouble": "other rows"}, {})}, dtype=dtype, batches=(2,))
    assert "token 1 of row 1" in ends["a", 2, 4].reason
    (agreement,) = accuracy["agreement"].values()
    assert agreement == {GATE_ARM: 1.0, "a": pytest.approx((1 + 0.25) / 2)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tokens_behind_the_gated_case_are_judged(compete, dtype):
    ends, _, _ = compete({"a": ({"trouble": "wrong at the end"}, {})}, dtype=dtype, lengths=(9,))
    assert ends["a", 1, 4].status == "ok" and "token 8 of row 0" in ends["a", 1, 9].reason
    assert ends[GATE_ARM, 1, 9].status == "ok"


def test_a_tie_may_fall_either_way_in_half_precision(compete):
    ends, _, accuracy = compete({GATE_ARM: ({"trouble": "tie"}, {})}, dtype="float16", batches=(2,))
    assert ends[GATE_ARM, 1, 4].status == ends[GATE_ARM, 2, 4].status == "ok"
    assert not accuracy["arms"][GATE_ARM]["repeats"]


def test_lossy_arms_are_measured_and_say_how_far_they_are_off(compete):
    ends, _, accuracy = compete({"a": ({"offset": 1e-3}, {"lossy": "half of it"}),
                                 "b": ({"offset": 1.0}, {"lossy": "all of it"})}, batches=(2,))
    lost = ends["a", 1, 4].provenance["lossy"]
    assert ends["a", 1, 4].status == ends["a", 2, 4].status == "ok" and lost["what"] == "half of it"
    assert 0 < lost["kl"] < 1e-3 and lost["top1"] == 1.0 and lost["steps"] == 4
    assert ends["b", 1, 4].reason.startswith("gate failed: logits diverge by") and not accuracy["arms"]["b"]["passed"]
    assert "lossy" not in ends[GATE_ARM, 1, 4].provenance


def test_first_requests_of_new_lengths_are_a_stage(compete):
    _, rows, _ = compete({}, new_lengths=2)
    assert [len(row.samples) for row in rows if row.stage == "new_length"] == [2]
