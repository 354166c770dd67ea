// What the decode kernel is tuned by. Everything that was found by measuring stands here, with what it was found on;
// the figures are in docs/lab/decode.md. No CUDA header.
#pragma once

#include <algorithm>

#include "ops/kernels/common/card.h"
#include "ops/kernels/decode/step.h"

namespace qwen {

// Batch rows of one launch: the columns of one tensor-core tile. With more, matrix products of all rows are faster.
constexpr int kMaxRows = 8;
constexpr int kTileRows = 16;              // weight rows of one tensor-core tile
constexpr int kStageRows = kTileRows / 2;  // of one stage of the ring; with 16 a step is 1.5 to 8 % slower
constexpr int kChunk = 1024;               // columns of one stage; stages of 4 rows by 2048 are 1.5 % slower
constexpr int kWarps = 8;                  // warps that compute
constexpr int kStreamWarps = 4;            // warps that fill the ring; issuing copies is too slow for one
// Registers of a thread: the streaming warps need few, the computing ones hold weights.
constexpr int kStreamRegisters = 56, kComputeRegisters = 224;
constexpr int kGroupTiles = 2;             // tiles that share one read of the activations, and wait in registers
// Heads up to which weights leave the ring before they are needed. Wider ones leave no room for its code in the
// instruction caches.
constexpr int kTakeAheadHeadDim = 128;
// 64 bytes of padding put the 16-byte reads of eight lanes (two rows of four) into different banks.
constexpr int kRowPadding = 64;
constexpr int kMinStages = 3, kMaxStages = 24;
constexpr int kWindow = 4;                 // chunks of activations in flight where they do not fit as a whole
constexpr int kMaxSplits = 4;              // parts of one row's context that different blocks attend to
// 8-value pieces that a thread has in flight: norms' weights (twice as many are spilled), attended values.
constexpr int kScaleBatch = 2, kAttendedBatch = 4;

// Rows of stages (kStageRows a stage) that may be on their way at a time. More of them keep memory busier, but the
// queues in front of it slow down every other access, of which a larger batch has more. So there are fewer while blocks
// exchange results; the ring is deep to bridge these times. Rows of weights in fewer bits are shorter.
struct InFlight {
  double least_rate;     // of the card, bytes per second
  int least_bytes;       // of a row of a stage
  int most_batch;
  int rows, in_exchange;
};
// The first that fits. Measured with tests/gpu/tune_decode.py at the 7B geometry: an H200 (4.9 TB/s nominal) is up to
// 2 % faster with more rows than an H100 (3.4 TB/s) has use for, the more the faster its memory; with more than 40 rows
// of 16 bits for 5 to 8 batch rows it is 1 to 8 % slower.
constexpr double kFast = 4e12;
constexpr int kHalfRow = 2 * kChunk, kLongRow = 3 * kChunk / 2;  // bytes of 16 bits a weight; of 12
// clang-format off
constexpr InFlight kInFlight[] = {
    {kFast, kHalfRow, 2, 80, 20}, {kFast, kHalfRow, 4, 72, 20}, {kFast, kHalfRow, 8, 40, 20},
    {kFast, kLongRow, 4, 96, 20}, {kFast, kLongRow, 8, 64, 20},
    {kFast, 0, 4, 128, 32},       {kFast, 0, 8, 104, 32},
    {0, kLongRow, 4, 52, 26},     {0, kLongRow, 8, 40, 20},
    {0, 0, 4, 80, 40},            {0, 0, 8, 64, 32},
};
// clang-format on

struct Tuning {
  int stages;         // of the ring: as many as shared memory holds, so that it bridges as long a wait as it can
  int in_flight;      // rows of stages that may be on their way while a block multiplies
  int in_exchange;    // and while blocks exchange results
  // Of waiting rows, brought into L2: three chunks, one more or less costs 0.1 to 0.5 % (H100, H200).
  int ahead_columns;
};

// For one launch; `stage_bytes` of a stage, `stages`: as many as shared memory holds.
inline Tuning tune(const Card& card, const QwenVlDecodeArgs& a, int stage_bytes, int stages) {
  const int row_bytes = stage_bytes / kStageRows;
  const InFlight* chosen = kInFlight;
  while (card.read_rate < chosen->least_rate || row_bytes < chosen->least_bytes || a.batch > chosen->most_batch)
    ++chosen;
  Tuning t;
  t.stages = a.ring_stages ? std::min(a.ring_stages, stages) : stages;
  const int ring_rows = t.stages * kStageRows;
  t.in_flight = std::min(a.rows_in_flight ? a.rows_in_flight : chosen->rows, ring_rows);
  t.in_exchange = std::min(a.rows_in_exchange ? a.rows_in_exchange : chosen->in_exchange, t.in_flight);
  t.ahead_columns = a.ahead_columns ? a.ahead_columns : 3 * kChunk;
  return t;
}

}  // namespace qwen
