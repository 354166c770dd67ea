"""The table of sizes: a line per format of the fused graphs, with what it reads, takes and loses."""

import pytest

from bench.readme import sizes_block
from bench.schema import Case, Row
from bench.sizes import has_sizes, sizes_frame

CASE = Case("small", "float32", "cpu", 1, 316, 32)
COLUMNS = ["matrices", "bits", "read per token (MB)", "peak memory (MiB)", "decode / token (ms)", "share of limit",
           "KL over a text (nats)", "same likeliest token", "n"]


def arm_rows(arm, ms, read, weights=None, lossy=None, status="ok", time="2026-01-02"):
    conditions = {"cpu": "A CPU", "cores": 2, "threads": 2, "versions": {}, "ceilings": {"read_bytes_per_s": 4e10},
                  "checkpoint": {"hash": "x", "synthetic": True}, "gpu": "none", "time": time, "git": {"sha": "0" * 40},
                  "work": {"decode_bytes": read, **({"weights": weights} if weights else {})},
                  **({"lossy": {"what": "x", **lossy}} if lossy else {})}
    samples, reason = (3, "") if status == "ok" else (0, "why")
    return [Row(arm, stage, status, reason, [value] * samples, CASE, conditions)
            for stage, value in (("end_to_end", 10 * ms), ("token", ms), ("peak_memory", 500.0))]


@pytest.fixture
def rows():
    return [*arm_rows("torch-sdpa", 5.0, 8e7), *arm_rows("paddle-native", 6.0, 8e7),
            *arm_rows("paddle-fused-int4", 1.0, 1.1e7, "int4+float32",
                      {"text_kl": 0.0213, "text_top1": 0.953, "text_positions": 512}),
            *arm_rows("paddle-fused", 2.5, 8e7),
            *arm_rows("paddle-fused-fp8", 1.0, 2e7, "fp8", {"kl": 1.0}, status="failed")]


def test_a_line_for_each_format_fewest_bits_last(rows):
    frame = sizes_frame(rows)
    assert list(frame.index) == ["paddle-fused", "paddle-fused-int4"] and list(frame.columns) == COLUMNS
    plain, four = frame.loc["paddle-fused"], frame.loc["paddle-fused-int4"]
    assert plain["bits"] == "32" and four["bits"] == "4.125" and "those of the head in float32" in four["matrices"]
    assert plain["read per token (MB)"] == "80.0" and four["read per token (MB)"] == "11.0"
    assert plain["share of limit"] == "80 %" and four["share of limit"] == "28 %"
    assert (plain["KL over a text (nats)"], four["KL over a text (nats)"]) == ("0", "0.021")
    assert (plain["same likeliest token"], four["same likeliest token"]) == ("100 %", "95.3 %")


def test_a_run_without_rounding_has_none(rows):
    assert has_sizes(rows)
    assert not has_sizes([row for row in rows if row.arm != "paddle-fused-int4"])
    assert not has_sizes([row for row in rows if row.arm != "paddle-fused"])


def test_readme_has_the_newest_such_run(rows, tmp_path):
    older = [*arm_rows("paddle-fused", 9.0, 8e7, time="2026-01-01"),
             *arm_rows("paddle-fused-int8", 9.0, 2e7, "int8", {"text_kl": 0.1, "text_top1": 0.9}, time="2026-01-01")]
    text = sizes_block([(tmp_path / "new", rows), (tmp_path / "old", older)], tmp_path, tmp_path)
    assert "paddle-fused-int4" in text and "paddle-fused-int8" not in text and "](new/table.md)" in text
    assert "no measure of a model's quality" in text
    assert "make bench ARMS=" in sizes_block([], tmp_path, tmp_path)
