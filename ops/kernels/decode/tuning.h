// What the decode kernel is tuned by: facts of the card, the bytes of a stage and the rows of the batch. Everything that
// was found by measuring stands here, with what it was found on (docs/performance_decode.md has the figures).
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "ops/kernels/decode/step.h"

namespace qwen {

struct Card {
  int multiprocessors;
  int shared_bytes;  // that one block may have
  double read_rate;  // nominal, bytes per second

  cudaError_t read() {
    int device = 0, clock_khz = 0, bus_bits = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (!error) error = cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (!error) error = cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, device);
    if (!error) error = cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device);
    read_rate = 2e3 * clock_khz * bus_bits / 8;  // twice a clock
    return error;
  }
};

// Rows of stages (kStageRows a stage) that may be on their way at a time. More of them keep memory busier, but the queues
// in front of it slow down every other access, of which a larger batch has more. So there are fewer while blocks exchange
// results; the ring is deep to bridge these times. Rows of 16 bits are 1.23 times as long as those of 13.
struct InFlight {
  double least_rate;     // of the card, bytes per second
  int least_bits;        // of a weight
  int most_batch;
  int rows, in_exchange;
};
// The first that fits. Measured with tests/gpu/tune_decode.py at the 7B geometry: an H200 (4.9 TB/s nominal) is up to 2 %
// faster with more rows than an H100 (3.4 TB/s) has use for, the more the faster its memory; with more than 40 rows of
// 16 bits for 5 to 8 batch rows it is 1 to 8 % slower.
constexpr double kFast = 4e12;
constexpr InFlight kInFlight[] = {
    {kFast, 16, 2, 80, 20}, {kFast, 16, 4, 72, 20}, {kFast, 16, 8, 40, 20},
    {kFast, 0, 4, 96, 20},  {kFast, 0, 8, 64, 20},
    {0, 0, 4, 52, 26},      {0, 0, 8, 40, 20},
};

struct Tuning {
  int stages;         // of the ring: as many as shared memory holds, so that it bridges as long a wait as it can
  int in_flight;      // rows of stages that may be on their way while a block multiplies
  int in_exchange;    // and while blocks exchange results
  int ahead_columns;  // of waiting rows, brought into L2: three chunks, one more or less costs 0.1 to 0.5 % (H100, H200)
};

// For one launch of at most 8 rows and weights of so many bits; `stages`: as many as shared memory holds.
inline Tuning tune(const Card& card, const QwenVlDecodeArgs& a, int bits, int stages, int stage_rows, int chunk) {
  const InFlight* chosen = kInFlight;
  while (card.read_rate < chosen->least_rate || bits < chosen->least_bits || a.batch > chosen->most_batch) ++chosen;
  Tuning t;
  t.stages = a.ring_stages ? std::min(a.ring_stages, stages) : stages;
  const int ring_rows = t.stages * stage_rows;
  t.in_flight = std::min(a.rows_in_flight ? a.rows_in_flight : chosen->rows, ring_rows);
  t.in_exchange = std::min(a.rows_in_exchange ? a.rows_in_exchange : chosen->in_exchange, t.in_flight);
  t.ahead_columns = a.ahead_columns ? a.ahead_columns : 3 * chunk;
  return t;
}

}  // namespace qwen
