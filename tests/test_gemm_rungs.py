"""The counts of rows that matrix products are timed with (ops/kernels/products/tuning.h)."""

import pytest

from tests import cpp

MOST = 5000
PROGRAM = f"""
#include <cstdio>
#include "ops/kernels/products/tuning.h"

int main() {{
  for (long long rows = 1; rows <= {MOST}; ++rows) std::printf("%lld\\n", qwen::gemm_rung(rows));
}}
"""


@pytest.fixture(scope="module")
def rung(tmp_path_factory):
    """{rows: rung}."""
    program = cpp.program(tmp_path_factory.mktemp("rungs"), PROGRAM)
    return dict(enumerate(map(int, cpp.lines(program)), 1))


def tiles(rows, size):
    return -(-rows // size)


def test_no_product_needs_another_tile_at_its_rung(rung):
    for rows in range(1, 1025):
        assert rung[rows] >= rows and rung[rung[rows]] == rung[rows]
        for size in (144, 160, 192, 256) if rows > 256 else (64, 144, 160, 192, 256):
            assert tiles(rows, size) == tiles(rung[rows], size)


def test_there_are_few_enough_to_time_all_of_them(rung):
    assert len(set(rung.values())) == 26
    assert max(rung.values()) == 2048


def test_more_rows_have_few_rungs_up_to_the_largest(rung):
    assert {rows: rung[rows] for rows in (1025, 4 * 286, 1153, 1537, 2048)} == {
        1025: 1152, 4 * 286: 1152, 1153: 1536, 1537: 2048, 2048: 2048}
    assert {rung[rows] for rows in range(2049, MOST + 1)} == {2048}
