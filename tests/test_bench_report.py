"""Tables and plots from stored rows alone."""

from dataclasses import replace

import pandas as pd
import pytest

from bench.hosts import Spread
from bench.report import conditions_line, display_frame, markdown, notes, speed_up_of, summary_frame
from bench.results import check_writable, report, write_results
from bench.schema import BENCHMARK, OPTIONAL, STAGES, Case, Row, check_comparable
from bench.statistics import speed_up, summary
from bench.stopping import OUT_OF_TIME
from core.errors import UserError
from ops import formats

CASE = Case("tiny", "float32", "cpu", 1, 290, 8)
CONDITIONS = {"argv": ["python", "-m", "bench", "run", "--prompt", "two words"], "platform": "Linux", "cpu": "A CPU",
              "cores": 2, "threads": 2, "memory_mib": 1000, "load_average": 0.0, "versions": {},
              "checkpoint": {"hash": "x", "synthetic": True},
              "rounds": {"asked": 2, "done": 2, "warmup": 0, "interrupted": False}}


def arm_rows(arm, end_to_end, status="ok", reason=""):
    samples = {stage: [value / 2 for value in end_to_end] for stage in STAGES} | {"end_to_end": end_to_end}
    return [Row(arm, stage, status, reason, samples[stage], CASE, CONDITIONS) for stage in STAGES
            if stage not in OPTIONAL]


def replace_provenance(row, **changes):
    return replace(row, provenance={**row.provenance, **changes})


@pytest.fixture
def rows():
    return [*arm_rows("torch-eager", [400.0, 440.0, 420.0]), *arm_rows("torch-sdpa", [300.0, 300.0, 330.0]),
            *arm_rows("paddle-native", [], "oom", "out of memory"),
            *arm_rows("paddle-fused", [], "failed", "gate failed: logits differ by 1")]


def test_summary():
    assert summary([1.0, 2.0, 3.0, 4.0, 10.0]) == {"median": 3.0, "min": 1.0, "p90": pytest.approx(7.6),
                                                 "p99": pytest.approx(9.76), "n": 5}
    assert summary([]) is None
    assert speed_up([4.0, 6.0], [2.0]) == 2.5


def test_speed_ups(rows):
    frame = summary_frame(rows)
    assert frame.loc["torch-sdpa", "speedup_vs_torch-eager"] == pytest.approx(1.4)
    assert frame.loc["torch-eager", "speedup_vs_torch-sdpa"] == pytest.approx(300 / 420)


@pytest.mark.parametrize("format, told", [("a later one", "a later one"),
                                        *((format.name, format.description) for format in formats.packed())])
def test_packed_weights_have_a_line_of_their_own(rows, format, told):
    plain = [replace_provenance(row, work={"decode_bytes": 14.22e9}) for row in rows]
    assert not any("keeps" in line for line in notes(plain))
    mixed = [replace_provenance(row, work={"decode_bytes": 11.55e9, "weights": format})
             if row.arm == "paddle-fused" else row for row in plain]
    line = f"paddle-fused keeps the language model's matrices in {told}: its decode step reads 11.55 GB of weights"
    assert f"{line}, that of the other arms 14.22 GB." in notes(mixed)
    assert f"{line}." in notes([row for row in mixed if row.arm == "paddle-fused"])


def test_failed_gate_publishes_no_speed_up(rows):
    shown = display_frame(rows)
    for baseline in ("torch-eager", "torch-sdpa"):
        assert shown.loc[f"speed-up vs {baseline}", "paddle-fused"] == "gate failed: logits differ by 1"
        assert shown.loc[f"speed-up vs {baseline}", "paddle-native"] == "oom"


def test_baseline_that_failed_or_is_not_there():
    arms = {row.arm: {} for row in arm_rows("paddle-fused", [1.0])}
    for row in [*arm_rows("paddle-fused", [1.0]), *arm_rows("torch-sdpa", [], "oom", "out of memory")]:
        arms.setdefault(row.arm, {})[row.stage] = row
    assert speed_up_of(arms, "paddle-fused", "torch-eager") == "not run"
    assert speed_up_of(arms, "paddle-fused", "torch-sdpa") == "torch-sdpa oom"


def test_report_makes_the_same_files_from_rows(rows, tmp_path):
    folder = write_results(tmp_path, rows, {})
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("table.csv", "table.md", "stages.png"):
        (folder / name).unlink()
    (found, read), = report(tmp_path)
    assert found == folder and read == rows
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_tables(rows, tmp_path):
    folder = write_results(tmp_path, rows, {})
    assert folder == tmp_path / "a-cpu-2-cores" / CASE.slug
    markdown = (folder / "table.md").read_text()
    for text in ("A CPU, 2 cores", "2 CPU threads", "synthetic weights", "290 prompt + 8 new tokens", "1.40x",
                 "420.0 [400.0..436.0]", "paddle-native: oom: out of memory", "--prompt 'two words'"):
        assert text in markdown
    table = pd.read_csv(folder / "table.csv", index_col="arm")
    assert table.loc["torch-eager", "end_to_end_median_ms"] == 420
    assert table.loc["torch-eager", "end_to_end_n"] == 3
    assert table.loc["paddle-native", "status"] == "oom"


def test_load_beside_the_bytes_of_the_weights(rows):
    assert "load (s/GB of weights)" not in display_frame(rows).index
    known = [replace_provenance(row, work={"weights_bytes": 5e8}) for row in rows]
    frame = display_frame(known)
    assert frame.loc["load (s/GB of weights)", "torch-eager"] == "0.42"   # 210 ms for half a GB
    assert frame.loc["load (s/GB of weights)", "paddle-fused"] == "-"
    assert summary_frame(known).loc["torch-sdpa", "load_s_per_gb"] == pytest.approx(0.3)


@pytest.mark.parametrize("host, said", [([1.0], "in 20 % of the GPU's time for it."),
                                        ([6.0], "in 120 % of the GPU's time for it: the host sets the pace.")])
def test_host_time_of_a_step_is_set_beside_the_gpus(rows, host, said):
    for stage, samples in (("host_step", host), ("token_gpu", [5.0])):
        rows.append(Row("torch-eager", stage, "ok", "", samples, CASE, CONDITIONS))
    text = "\n".join(notes(rows))
    assert f"torch-eager: the host launches a decode step {said}" in text and "GPU clock: between CUDA events" in text


def test_how_the_rounds_ended_is_said(rows):
    for arm, stopped, done in (("torch-eager", "budget", 12), ("torch-sdpa", "narrow", 12)):
        rows = [replace_provenance(row, rounds={**row.provenance["rounds"], "stopped": stopped, "done": done})
                if row.arm == arm else row for row in rows]
    assert "12 rounds, until the budget was spent, until the medians were known to 2 %;" in conditions_line(rows)


@pytest.mark.parametrize("eager, sdpa, complete", [(10, 10, True), (12, 12, True), (9, 9, False), (12, 10, False),
                                                   (0, 12, False)])
def test_a_table_is_incomplete_unless_all_arms_made_the_same_rounds(rows, eager, sdpa, complete):
    made = [replace_provenance(row, rounds={**row.provenance["rounds"], "done": done})
            for row, done in ((row, {"torch-eager": eager, "torch-sdpa": sdpa}.get(row.arm, 0)) for row in rows)]
    said = [line for line in notes(made) if line.startswith("Incomplete")]
    assert bool(said) != complete and (", incomplete;" in conditions_line(made)) != complete
    assert complete or said[0].endswith(f"Made: torch-eager {eager}, torch-sdpa {sdpa}.")


def test_an_arm_that_the_deadline_left_out_makes_a_table_incomplete(rows):
    made = [replace_provenance(row, rounds={**row.provenance["rounds"], "done": 10}) for row in rows]
    cut = [replace_provenance(replace(row, status="skipped", reason=OUT_OF_TIME, samples=[]),
                              rounds={**row.provenance["rounds"], "done": 0}) if row.arm == "torch-sdpa" else row
           for row in made]
    assert not any("Incomplete" in line for line in notes(made)) and any("torch-sdpa 0" in line for line in notes(cut))


def test_passes_of_every_arm_stand_in_the_table(rows):
    shown = display_frame(rows)
    assert list(shown.loc["passes (n)"]) == ["3", "3", "0", "0"]


def test_shares_of_limits_name_both_terms(rows):
    known = [replace_provenance(row, work={"decode_bytes": 14.2e9, "vision_flops": 5.3e12},
                                ceilings={"read_bytes_per_s": 4.41e12, "vision_flop_per_s": 669e12}) for row in rows]
    shown = display_frame(known)
    assert shown.loc["decode / token, share of limit", "torch-eager"] == "2 % (14.20 GB at 4410 GB/s)"
    assert shown.loc["vision, share of limit", "torch-eager"] == "4 % (5.30 TFLOP at 669 TFLOP/s)"
    assert shown.loc["decode / token, share of limit", "paddle-fused"] == "-"


def test_arms_that_the_host_paces_come_last_with_their_spread(rows):
    gpu = [replace(row, case=replace(CASE, device="gpu")) for row in rows]
    gpu += [replace(row, arm="torch-compile") for row in gpu if row.arm == "torch-sdpa"]
    spread = {("torch-compile", "torch-eager"): Spread(1.1, 2.0, 3, 2)}
    shown = display_frame(gpu, spread)
    speed_ups = [name for name in shown.index if name.startswith("speed-up")]
    assert speed_ups == ["speed-up vs torch-compile", "speed-up vs torch-eager, which its host paces",
                         "speed-up vs torch-sdpa, which its host paces"]
    assert shown.loc[speed_ups[1], "torch-compile"].endswith("; 1.10..2.00x in 3 stored runs on 2 hosts")
    assert not any("paces" in name for name in display_frame(rows).index)


def test_lossy_arms_have_a_table_of_their_own_without_speed_ups(rows):
    lost = {"what": "weights in 4 bits", "kl": 0.03, "top1": 0.75, "steps": 8}
    mixed = rows + [replace_provenance(replace(row, arm="torch-compile-int4"), lossy=lost) for row in rows
                    if row.arm == "torch-sdpa"]
    first, second = markdown(mixed).split("Arms whose weights are not the checkpoint's any more")
    assert "int4" not in first.split("\n\n")[1] and "speed-up vs torch-eager" in first
    table = second.split("\n\n")[1]
    assert "weights in 4 bits" in table and "75 % of 8" in table and "0.03" in table and "speed-up" not in table


def test_one_of_a_thing_is_no_plural(rows):
    one = [replace_provenance(replace(row, case=replace(CASE, new_tokens=1)), cores=1, threads=1,
                              rounds={**row.provenance["rounds"], "done": 1}) for row in rows]
    assert conditions_line(one).startswith("A CPU, 1 core; 1 CPU thread;")
    assert "+ 1 new token; 1 round, incomplete;" in conditions_line(one)


def test_an_interval_is_explained_where_there_is_one(rows):
    assert any("95 % bootstrap interval" in line for line in notes(rows))
    assert not any("interval]" in line for line in notes([replace(row, samples=row.samples[:1]) for row in rows]))


def test_busy_machine_is_said(rows, tmp_path):
    busy = [Row(row.arm, row.stage, row.status, row.reason, row.samples, CASE, {**CONDITIONS, "load_average": 1.5})
            for row in rows]
    assert "Other programs were busy" in (write_results(tmp_path, busy, {}) / "table.md").read_text()


def test_nothing_to_report(tmp_path):
    with pytest.raises(UserError, match="no rows.jsonl"):
        list(report(tmp_path))


def test_full_disk_is_found_before_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5 << 20}))
    with pytest.raises(UserError, match="5 MiB left"):
        check_writable(tmp_path)


def test_conditions_stand_under_the_table(rows, tmp_path):
    during = {"looks": 9, "load_average": {"min": 1, "median": 2, "max": 3}, "cpu_mhz": "not available: x",
              "others_cores": {"min": 0.0, "median": 0.5, "max": 1.0},
              "gpu": {"sm_mhz": {"min": 1500, "median": 1600, "max": 1700}, "memory_mhz": "not available: y",
                      "temperature_c": {"min": 50, "median": 60, "max": 70},
                      "power_w": {"min": 300, "median": 340, "max": 350}, "events": {"sw_power_cap": 0.25},
                      "throttled": True}}
    told = {**CONDITIONS, "during": during, "governor": "performance",
            "repro": "git checkout abc && python -m bench run",
            "git": {"sha": "abc", "dirty": True}, "image": {"name": "a.jpg", "xxh3_128": "77"}, "seeds": {"weights": 5},
            "gpu": {"name": "A Card", "driver": "580.1", "power_limit_w": 350.0, "ecc": True},
            "versions": {"torch": "2.13", "loaded": {"cuBLAS": {"libcublas.so.12": "12.4.5"}}}}
    text = (write_results(tmp_path, [Row(row.arm, row.stage, row.status, row.reason, row.samples, CASE, told)
                                     for row in rows], {}) / "table.md").read_text()
    for part in ("git abc with uncommitted changes", "seed 5", "a.jpg 77", "governor: performance", "driver 580.1",
                 "power_limit_w 350.0", "ecc True", "1600 [1500..1700] MHz", "60.0 [50.0..70.0] °C",
                 "sw_power_cap in 25 % of the looks", "cores used by other programs 0.50 [0.00..1.00]",
                 "Other programs used 0.5 of 2 cores while this was measured",
                 "cuBLAS libcublas.so.12 (12.4.5)", "`git checkout abc && python -m bench run`"):
        assert part in text


def test_rows_of_other_benchmark_versions_are_not_compared(rows):
    other = [Row(row.arm, row.stage, row.status, row.reason, row.samples, CASE, CONDITIONS, benchmark=99)
             for row in rows]
    with pytest.raises(UserError, match=f"versions {BENCHMARK} and 99 cannot be compared"):
        check_comparable(rows, other)
