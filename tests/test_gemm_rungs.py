"""The counts of rows that matrix products are timed with (ops/kernels/gemm_rung.h)."""

import pytest

from tests import cpp

MOST = 5000
PROGRAM = f"""
#include <cstdio>
#include "ops/kernels/gemm_rung.h"

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
        for size in (144, 256) if rows > 256 else (64, 144, 256):
            assert tiles(rows, size) == tiles(rung[rows], size)


def test_there_are_few_enough_to_time_all_of_them(rung):
    assert len(set(rung.values())) == 16
    assert max(rung.values()) == 1024


def test_more_rows_take_the_choice_of_the_largest(rung):
    assert {rung[rows] for rows in range(1025, MOST + 1)} == {1024}
