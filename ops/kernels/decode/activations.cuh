// Bringing the input of a matrix product into shared memory, as [rows] of T, `activation_stride` bytes apart.
#pragma once

#include <math.h>

#include "ops/kernels/common/copies.cuh"
#include "ops/kernels/common/vector.cuh"
#include "ops/kernels/decode/block.cuh"

namespace qwen {

// RMSNorm of the residual. It is copied as it is and scaled in place: copies in flight need no registers. The sum of
// squares comes as one share per block.
template <typename T>
__device__ void load_normed(const Params& p, const void* weight, char* to, BlockState& block) {
  const QwenVlDecodeArgs& a = p.args;
  const int pieces = a.hidden / 8, stride = activation_stride(a.hidden);
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
#pragma unroll 1
  for (int row = 0; row < a.batch; ++row) {
    const T* from = static_cast<const T*>(p.rounded) + size_t(row) * a.hidden;
#pragma unroll 2
    for (int piece = thread; piece < pieces; piece += kComputeThreads) {
      copy_async(shared_address(to + row * stride + piece * 16), from + piece * 8);
    }
  }
  copy_commit();
#pragma unroll 1
  for (int start = 0; start < pieces; start += kScaleBatch * kComputeThreads) {
    uint4 scale[kScaleBatch];
#pragma unroll
    for (int i = 0; i < kScaleBatch; ++i) {
      const int piece = start + i * kComputeThreads + thread;
      scale[i] = __ldg(static_cast<const uint4*>(weight) + min(piece, pieces - 1));
    }
    if (start == 0) {
      if (warp < a.batch) {
        float sum = 0;
#pragma unroll 4
        for (int i = lane; i < static_cast<int>(gridDim.x); i += 32) sum += __ldcg(p.squares + warp * gridDim.x + i);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0) block.inverse_rms[warp] = 1.0f / sqrtf(sum / a.hidden + a.epsilon);
      }
      copy_wait<0>();
      sync_compute();
    }
#pragma unroll
    for (int i = 0; i < kScaleBatch; ++i) {
      const int piece = start + i * kComputeThreads + thread;
      if (piece >= pieces) continue;
      float w[8];
      Vector<T>{scale[i]}.unpack(w);
#pragma unroll 1
      for (int row = 0; row < a.batch; ++row) {
        T* values = reinterpret_cast<T*>(to + row * stride + piece * 16);
        float x[8];
        load_vector(values, x);
#pragma unroll
        for (int j = 0; j < 8; ++j) x[j] *= block.inverse_rms[row] * w[j];
        store_vector(values, x);
      }
    }
  }
  sync_compute();
}

// The attention of all heads and rows, as far as its words come in.
__device__ inline void load_attended(const Params& p, char* to, unsigned tag) {
  const QwenVlDecodeArgs& a = p.args;
  const int pieces = a.hidden / 8, total = a.batch * pieces, stride = activation_stride(a.hidden);
  for (int start = thread_index(); start < total; start += kAttendedBatch * kComputeThreads) {
    const WordPair* from = reinterpret_cast<const WordPair*>(p.attended) + 2 * start;
    const int valid = (total - start + kComputeThreads - 1) / kComputeThreads;
    WordPair words[2 * kAttendedBatch];
    receive(words, [=](int i) { return i / 2 < valid ? from + i / 2 * (2 * kComputeThreads) + i % 2 : nullptr; }, tag);
#pragma unroll
    for (int i = 0; i < kAttendedBatch; ++i) {
      if (i >= valid) continue;
      const int piece = start + i * kComputeThreads;
      *reinterpret_cast<uint4*>(to + piece / pieces * stride + piece % pieces * 16) =
          make_uint4(payload(words[2 * i].first), payload(words[2 * i].second), payload(words[2 * i + 1].first),
                     payload(words[2 * i + 1].second));
    }
  }
  sync_compute();
}

}  // namespace qwen
