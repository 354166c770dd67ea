#include "ops/kernels/products/gemm.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "ops/formats/registry.h"
#include "ops/formats/unpack.h"
#include "ops/kernels/common/arguments.h"
#include "ops/kernels/common/per_device.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/products/activation.h"
#include "ops/kernels/products/cublaslt.h"
#include "ops/kernels/products/hopper.h"
#include "ops/kernels/products/tuning.h"

namespace qwen {
namespace {

constexpr float kNever = 1e30f;  // the time of what does not run

// What products have in common that differ by their rows alone, or by how many groups of rows share an addend.
using Key = std::array<long long, 16>;

Key key_of(const QwenVlGemm& g) {
  return {g.in,
          g.out,
          g.x_stride,
          g.batch > 1,
          g.batch > 1 ? g.addend_batch : 0,
          g.dtype,
          g.float_output,
          g.activation,
          g.bias != nullptr,
          g.addend != nullptr,
          g.addend == g.y,
          weight_alignment(g),
          x_alignment(g),
          y_alignment(g),
          y_stride(g),
          g.format};
}

// One way to do a product: a tile shape of hopper.h, or else an algorithm of cuBLASLt.
struct Choice {
  int shape = -1;
  cublasLtMatmulAlgo_t algorithm{};
};

// The ways chosen so far on one device, by product and rung. Contexts share them: another stream times nothing again.
struct Choices {
  struct Known {
    std::map<long long, Choice> timed, suggested;
  };
  std::mutex mutex;
  std::map<Key, Known> known;
};

// Of the current device, kept until the process ends.
Choices& choices() {
  return *once_per_device(nullptr, [] { return new Choices; });
}

thread_local int tuning = 0;

// The tile shapes that can do a product.
std::vector<Choice> tile_shapes(const QwenVlGemm& g) {
  std::vector<Choice> candidates;
  for (int shape = 0; shape < kHopperGemms; ++shape)
    if (hopper_gemm(g, shape, nullptr, nullptr)) candidates.push_back({shape, {}});
  return candidates;
}

// Rows of weights to unpack at once where no tile shape takes them as they are.
long long unpacked_rows(const QwenVlGemm& g) {
  const long long rows = kUnpackedBytes / (g.in * 2) / kUnpackedRows * kUnpackedRows;
  return std::min(g.out, std::max(rows, kUnpackedRows));
}

// What an activation that is a pass of its own makes of the product.
int activate(const QwenVlGemm& g, void* product, cudaStream_t stream) {
  if (g.activation == kGelu) return qwen_vl_gelu(product, g.tokens * g.out, g.dtype, stream);
  if (g.activation == kSiluMul)
    return qwen_vl_silu_mul(product, g.y, g.tokens, static_cast<int>(g.out / 2), g.dtype, stream);
  return QWEN_VL_OK;
}

// Some of the weight's rows, to g.unpacked.
int unpack(const QwenVlGemm& g, long long first, long long rows, cudaStream_t stream) {
  const bool same = with_format(g.format, [&](auto format) { return g.dtype == decltype(format)::kValues; });
  if (!same) return QWEN_VL_UNSUPPORTED;
  const void* from = static_cast<const char*>(g.weight) + weight_bytes(g, first);
  return qwen_vl_unpack(g.format, from, g.unpacked, rows, g.in, stream);
}

// Unpacks slices of the weight's rows; the product of each is columns of the whole one.
int gemm_unpacked(QwenVlContext* context, const QwenVlGemm& g, cudaStream_t stream) {
  if (g.batch != 1 || !g.unpacked) return QWEN_VL_UNSUPPORTED;
  void* product = g.activation == kSiluMul ? g.wide : g.y;
  const int value_bytes = g.float_output ? 4 : 2;
  QwenVlGemm slice = g;
  slice.weight = g.unpacked;
  slice.y_stride = y_stride(g);
  slice.activation = kNoActivation;
  slice.format = g.dtype;
  slice.layers = 0;
  for (long long row = 0; row < g.out; row += slice.out) {
    slice.out = std::min(unpacked_rows(g), g.out - row);
    slice.bias = g.bias ? static_cast<const char*>(g.bias) + row * 2 : nullptr;
    slice.y = static_cast<char*>(product) + row * value_bytes;
    slice.addend = g.addend ? static_cast<const char*>(g.addend) + row * value_bytes : nullptr;
    QWEN_VL_TRY(unpack(g, row, slice.out, stream));
    QWEN_VL_TRY(qwen_vl_gemm(context, &slice, stream));
  }
  return activate(g, product, stream);
}

}  // namespace
}  // namespace qwen

using namespace qwen;

struct QwenVlContext {
  CublasLt lt;
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;

  int run(const CublasLtPlan& plan, const QwenVlGemm& g, const Choice& choice, cudaStream_t stream) const {
    int status = QWEN_VL_UNSUPPORTED;
    if (choice.shape >= 0) {
      hopper_gemm(g, choice.shape, stream, &status);
      return status;
    }
    const float one = 1.f, beta = g.addend ? 1.f : 0.f;
    void* d = g.activation == kSiluMul ? g.wide : g.y;
    if (lt.matmul(handle, plan.desc, &one, g.weight, plan.a, g.x, plan.b, &beta, g.addend ? g.addend : d, plan.c, d,
                  plan.d, &choice.algorithm, workspace, QWEN_VL_GEMM_WORKSPACE, stream) != CUBLAS_STATUS_SUCCESS)
      return QWEN_VL_BLAS_REFUSED;
    return activate(g, d, stream);
  }

  // The fastest candidate. Each is timed once, where there are many; then the kFinalists fastest in turns, by their
  // medians over kTimedRuns, since the clock moves and the luckiest of many is not the fastest. Results go to a
  // scratch buffer, so that y stays as it is.
  int fastest(const CublasLtPlan& plan, const QwenVlGemm& g, const std::vector<Choice>& candidates, cudaStream_t stream,
              Choice* best) const {
    const long long last = g.tokens * y_stride(g);
    const long long bytes = (g.batch == 1 ? last : (g.batch - 1) * g.y_batch + last) * (g.float_output ? 4 : 2);
    void* scratch = nullptr;
    cudaError_t error = cudaMalloc(&scratch, bytes);
    if (error != cudaSuccess) return error;
    cudaMemsetAsync(scratch, 0, bytes, stream);
    QwenVlGemm timed = g;
    timed.y = scratch;
    if (g.addend == g.y) timed.addend = scratch;
    cudaEvent_t events[kTimedRuns + 1];
    for (auto& event : events) cudaEventCreate(&event);
    int turn = 0;  // each run reads another layer's weights
    auto median = [&](const Choice& choice, int runs) {
      for (int i = -1; i < runs; ++i) {
        const long long other = g.layers > 0 ? turn++ % g.layers - g.layer : 0;
        timed.weight = static_cast<const char*>(g.weight) + other * weight_bytes(g, g.out);
        if (i <= 0) cudaEventRecord(events[0], stream);
        if (run(plan, timed, choice, stream) != QWEN_VL_OK) return kNever;
        if (i >= 0) cudaEventRecord(events[i + 1], stream);
      }
      if (cudaStreamSynchronize(stream) != cudaSuccess) {
        cudaGetLastError();
        return kNever;
      }
      std::array<float, kTimedRuns> times;
      for (int i = 0; i < runs; ++i) cudaEventElapsedTime(&times[i], events[i], events[i + 1]);
      std::sort(times.begin(), times.begin() + runs);
      return times[runs / 2];
    };
    std::vector<std::pair<float, size_t>> order;
    const bool many = candidates.size() > kFinalists;
    for (size_t i = 0; i < candidates.size(); ++i) order.emplace_back(many ? median(candidates[i], 1) : 0.f, i);
    std::sort(order.begin(), order.end());
    order.resize(std::min(order.size(), size_t(kFinalists)));
    for (int round = 0; round < kFinalRounds; ++round)
      for (auto& [time, index] : order)
        if (time < kNever) time += median(candidates[index], kTimedRuns);
    for (auto& event : events) cudaEventDestroy(event);
    const auto first = *std::min_element(order.begin(), order.end());
    *best = candidates[first.second];
    error = cudaFree(scratch);
    return first.first < kNever ? int(error) : int(QWEN_VL_BLAS_REFUSED);
  }

  // Whether a way that was chosen with other rows can do this product.
  bool can(const CublasLtPlan& plan, const QwenVlGemm& g, const Choice& choice) const {
    if (choice.shape >= 0) return hopper_gemm(g, choice.shape, nullptr, nullptr);
    return plan.can(handle, choice.algorithm);
  }

  // At most `suggested` algorithms of cuBLASLt and every tile shape; for packed weights tile shapes alone.
  std::vector<Choice> ways(const CublasLtPlan& plan, const QwenVlGemm& g, int suggested) const {
    std::vector<Choice> candidates;
    if (!is_packed(g))
      for (const auto& algorithm : plan.suggestions(handle, g, suggested)) candidates.push_back({-1, algorithm});
    for (const Choice& shape : tile_shapes(g)) candidates.push_back(shape);
    return candidates;
  }

  // How to do a product; see qwen_vl_gemm.
  int choose(const CublasLtPlan& plan, const QwenVlGemm& g, cudaStream_t stream, Choice* choice) const {
    cudaStreamCaptureStatus capture;
    QWEN_VL_TRY(cudaStreamIsCapturing(stream, &capture));
    const long long rung = gemm_rung(g.tokens);
    Choices& all = choices();
    const std::lock_guard<std::mutex> lock(all.mutex);
    auto& [timed, suggested] = all.known[key_of(g)];
    if (tuning && capture == cudaStreamCaptureStatusNone && !timed.count(rung)) {
      const std::vector<Choice> candidates = ways(plan, g, kCandidates);
      if (candidates.empty()) return QWEN_VL_BLAS_REFUSED;
      *choice = candidates[0];
      if (candidates.size() > 1) QWEN_VL_TRY(fastest(plan, g, candidates, stream, choice));
      timed[rung] = *choice;
    }
    if (!timed.empty()) {
      const auto next = timed.lower_bound(rung);
      *choice = next != timed.end() ? next->second : timed.rbegin()->second;
      if (can(plan, g, *choice)) return QWEN_VL_OK;
    }
    const auto before = suggested.find(rung);
    if (before != suggested.end() && can(plan, g, *choice = before->second)) return QWEN_VL_OK;
    const std::vector<Choice> candidates = ways(plan, g, 1);
    if (candidates.empty()) return QWEN_VL_BLAS_REFUSED;
    *choice = suggested[rung] = candidates[0];
    return QWEN_VL_OK;
  }
};

extern "C" int qwen_vl_gemm_tuning(int on) { return std::exchange(tuning, on); }

extern "C" long long qwen_vl_gemm_rung(long long rows) { return gemm_rung(rows); }

extern "C" int qwen_vl_context_create(QwenVlContext** context, void* workspace) {
  auto* opened = new QwenVlContext;
  opened->workspace = workspace;
  if (!opened->lt.load() || opened->lt.create(&opened->handle) != CUBLAS_STATUS_SUCCESS) {
    delete opened;
    return QWEN_VL_BLAS_MISSING;
  }
  *context = opened;
  return QWEN_VL_OK;
}

extern "C" void qwen_vl_context_destroy(QwenVlContext* context) {
  if (!context) return;
  context->lt.destroy(context->handle);
  delete context;
}

extern "C" size_t qwen_vl_gemm_unpacked_bytes(const QwenVlGemm* gemm) {
  return is_packed(*gemm) && tile_shapes(*gemm).empty() ? unpacked_rows(*gemm) * gemm->in * 2 : 0;
}

extern "C" int qwen_vl_gemm(QwenVlContext* context, const QwenVlGemm* gemm, cudaStream_t stream) {
  const QwenVlGemm& g = *gemm;
  if (g.tokens == 0) return QWEN_VL_OK;
  if (is_packed(g) && tile_shapes(g).empty()) return gemm_unpacked(context, g, stream);
  const CublasLtPlan plan(context->lt, g);
  if (!plan.ok) return QWEN_VL_BLAS_REFUSED;
  Choice choice;
  QWEN_VL_TRY(context->choose(plan, g, stream, &choice));
  return context->run(plan, g, choice, stream);
}
