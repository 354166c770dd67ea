"""A results folder with a case of three arms and its reproduction, for tests of what is published from it."""

from bench.reproduce import FILE, PASSES
from bench.results import write_results
from bench.schema import OPTIONAL, STAGES, Case, Row

CASE = Case("small", "float32", "cpu", 1, 290, 8)
CONDITIONS = {"argv": ["python", "-m", "bench", "run"], "platform": "Linux", "cpu": "A <CPU>", "cores": 2, "threads": 2,
              "memory_mib": 1000, "load_average": 0.0, "versions": {}, "time": "2026-01-01T00:00:00+00:00",
              "checkpoint": {"hash": "x", "synthetic": True},
              "rounds": {"asked": 10, "done": 10, "warmup": 0, "interrupted": False}}


def case_rows(case=CASE, conditions=CONDITIONS, faster=1):
    """Rows of three arms, the last of which failed its gate."""
    made = []
    for arm, ms in (("torch-eager", [400.0, 440.0, 420.0]), ("paddle-fused", [210.0, 200.0, 220.0]),
                    ("paddle-native", [])):
        status, reason = ("ok", "") if ms else ("failed", "gate failed: logits differ by <1>")
        made += [Row(arm, stage, status, reason, [value / faster for value in ms], case, conditions)
                 for stage in STAGES if stage not in OPTIONAL]
    return made


def write_reproduction(folder, rows):
    """Both protocols' rows beside a run's."""
    pair = [row for row in rows if row.arm != "paddle-native" and row.stage == "end_to_end"]
    pair += [Row(row.arm, "published", "ok", "", row.samples * (PASSES // 3), row.case, row.provenance) for row in pair]
    (folder / FILE).write_text("".join(row.to_json() + "\n" for row in pair))


def write_published(out):
    """The results folder; returns it."""
    rows = case_rows()
    write_reproduction(write_results(out, rows, {"arms": {"paddle-fused": {"passed": True}}}), rows)
    return out
