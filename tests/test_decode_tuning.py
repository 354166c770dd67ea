"""How a decode step is tuned, by card, batch and width of a weight (ops/kernels/decode/tuning.h)."""

import pytest

from tests import cpp

PROGRAM = """
#include <cstdio>
#include "ops/kernels/decode/tuning.h"

int main() {
  for (const double rate : {1.6e12, 3.4e12, 4.9e12, 8e12}) {
    for (const int width : {8, 13, 16}) {
      for (int batch = 1; batch <= qwen::kMaxRows; ++batch) {
        for (const int stages : {qwen::kMinStages, 13, qwen::kMaxStages}) {
          QwenVlDecodeArgs args{};
          args.batch = batch;
          const qwen::Tuning t = qwen::tune({132, 232448, rate}, args, 1024 * width, stages);
          args.ring_stages = 99, args.rows_in_flight = 8, args.rows_in_exchange = 16, args.ahead_columns = 1024;
          const qwen::Tuning wanted = qwen::tune({132, 232448, rate}, args, 1024 * width, stages);
          std::printf("%g %d %d %d %d %d %d %d %d\\n", rate, width, batch, stages, t.stages, t.in_flight, t.in_exchange,
                      wanted.stages, wanted.in_exchange);
        }
      }
    }
  }
}
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """{(rate, width, batch, stages): (stages, rows in flight, in exchange; the first and last where set)}."""
    printed = cpp.lines(cpp.program(tmp_path_factory.mktemp("tuning"), PROGRAM))
    rows = [[float(value) for value in line.split()] for line in printed]
    return {tuple(row[:4]): tuple(map(int, row[4:])) for row in rows}


def test_no_more_rows_are_on_their_way_than_the_ring_holds(tuned):
    assert len(tuned) == 4 * 3 * 8 * 3
    for (_, _, _, stages), (chosen, in_flight, in_exchange, _, _) in tuned.items():
        assert chosen == stages and 0 < in_exchange <= in_flight <= 8 * stages


def test_the_card_the_weights_width_and_the_batch_choose(tuned):
    assert tuned[3.4e12, 16, 1, 13][1:3] == tuned[1.6e12, 13, 4, 13][1:3] == (52, 26)
    assert tuned[3.4e12, 13, 5, 13][1:3] == (40, 20)
    assert tuned[4.9e12, 16, 1, 13][1:3] == (80, 20) and tuned[4.9e12, 16, 5, 13][1:3] == (40, 20)
    assert tuned[8e12, 13, 4, 13][1:3] == (96, 20) and tuned[8e12, 8, 1, 24][1:3] == (128, 32)
    assert tuned[3.4e12, 8, 1, 24][1:3] == (80, 40) and tuned[3.4e12, 8, 8, 24][1:3] == (64, 32)


def test_what_is_asked_for_is_bounded_as_well(tuned):
    for (_, _, _, stages), row in tuned.items():
        assert row[3:] == (stages, 8)
