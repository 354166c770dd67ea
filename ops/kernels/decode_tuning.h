// What the decode kernel is tuned by: facts of the card, the bytes of a stage and the rows of the batch. Everything that
// was found by measuring stands here, with what it was found on (docs/performance_decode.md has the figures).
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>

#include "decode.h"

namespace decode {

struct Card {
  int multiprocessors;
  int shared_bytes;  // that one block may have

  cudaError_t read() {
    int device = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (!error) error = cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return error;
  }
};

struct Tuning {
  int stages;         // of the ring
  int in_flight;      // rows of stages that may be on their way while a block multiplies
  int in_exchange;    // and while blocks exchange results
  int ahead_columns;  // of waiting rows, brought into L2
};

// `stages`: as many as shared memory holds.
inline Tuning tune(const QwenVlDecodeArgs& a, int stages, int stage_rows, int chunk) {
  Tuning t;
  t.stages = a.ring_stages ? std::min(a.ring_stages, stages) : stages;
  const int ring_rows = t.stages * stage_rows;
  const auto rows = [&](int asked, int chosen) { return std::min(asked ? asked : chosen, ring_rows); };
  t.in_flight = rows(a.rows_in_flight, a.batch <= 4 ? 52 : 40);
  t.in_exchange = rows(a.rows_in_exchange, t.in_flight / 2);
  t.ahead_columns = a.ahead_columns ? a.ahead_columns : 3 * chunk;
  return t;
}

}  // namespace decode
