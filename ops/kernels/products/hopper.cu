#include "ops/kernels/products/hopper.h"

#include <algorithm>

#include "ops/formats/registry.h"
#include "ops/kernels/common/card.h"
#include "ops/kernels/common/hopper_launch.cuh"
#include "ops/kernels/common/status.h"
#include "ops/kernels/products/hopper.cuh"

#if CUDART_VERSION >= 12000
namespace qwen {
namespace {

bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

// A row-major [rows, columns] matrix in boxes of box_rows x box_columns.
bool matrix_map(CUtensorMap* map, MapValue value, const void* base, long long rows, long long columns, long long stride,
                int box_rows, int box_columns, bool promoted = true) {
  const long long sizes[2] = {columns, rows}, strides[1] = {stride};
  const int box[2] = {box_columns, box_rows};
  return encode_tensor_map(map, value, base, 2, sizes, strides, box, box_columns * 2, promoted);
}

// The weights in boxes of the tile shape's rows, of 64 columns or a granule.
// INTERLEAVED: of gate over up; boxes alternate between 8 rows of the one and 8 of the other.
template <typename S, bool INTERLEAVED>
bool weight_map(CUtensorMap* map, MapValue value, const QwenVlGemm& g, bool promoted) {
  // For the map, granules that stand together are one row of values of eight bytes.
  constexpr int kTogether = S::kRowsTogether, kEight = 8 / kTogether, kBoxRows = S::kWeightRows;
  constexpr int kBoxColumns = S::kPacked ? kTogether * S::kRowBytes / 8 : 64, kSwizzle = S::kPacked ? 0 : 128;
  const long long rows = g.out / kTogether;
  const long long columns = S::kPacked ? g.in / S::Packing::kColumns * kBoxColumns : g.in;
  const long long pitch = S::kPacked ? format_bytes(g.format, kTogether, g.in) / 8 : g.in;
  if (S::kPacked) value = MapValue::kEightBytes;
  if (INTERLEAVED) {
    const long long sizes[4] = {columns, kEight, 2, g.out / 16};
    const long long strides[3] = {pitch, rows / 2 * pitch, kEight * pitch};
    const int box[4] = {kBoxColumns, kEight, 2, kBoxRows / 16};
    return encode_tensor_map(map, value, g.weight, 4, sizes, strides, box, kSwizzle, promoted);
  }
  const long long sizes[2] = {columns, rows}, strides[1] = {pitch};
  const int box[2] = {kBoxColumns, kBoxRows / kTogether};
  return encode_tensor_map(map, value, g.weight, 2, sizes, strides, box, kSwizzle, promoted);
}

template <typename T, typename S, int ACTIVATION, typename Y>
bool launch(Tile<T, S, ACTIVATION, Y>, const QwenVlGemm& g, cudaStream_t stream, int* status) {
  const auto kernel = gemm_kernel<T, S, ACTIVATION, Y>;
  const int processors = card().multiprocessors;
  if (processors < 2 || !can_run(kernel, S::kThreads, S::kBytes)) return false;

  constexpr bool kSilu = ACTIVATION == kSiluMul;
  constexpr MapValue kValue = std::is_same<T, __half>::value ? MapValue::kFloat16 : MapValue::kBfloat16;
  GemmSize size{};
  size.out = static_cast<int>(g.out);
  size.steps = ceil_div(g.in, 64);
  size.tokens = static_cast<int>(g.tokens);
  size.tiles_m = ceil_div(g.out, S::kM);
  size.tiles_n = ceil_div(g.tokens, S::kN);
  if (size.steps < 2 * S::kStages) return false;  // short products gain nothing; the epilogue relies on full stages
  if (!status) return true;
  size.units = S::kCommon == Common::kWeights  ? size.tiles_m * ceil_div(size.tiles_n, 2)
               : S::kCommon == Common::kTokens ? ceil_div(size.tiles_m, 2) * size.tiles_n
                                               : size.tiles_m * size.tiles_n;
  const long long width = kSilu ? g.out / 2 : g.out;
  // Granules are not whole blocks of 256 bytes: what comes with them costs L2's rate, which counts with many tokens,
  // and is read later, which counts with few.
  constexpr bool kPromoted = !S::kPacked || S::kN <= 64;
  if (!qwen_vl_wait_words()) return false;
  CUtensorMap weight, x, addend, y;
  const bool mapped =
      weight_map<S, kSilu>(&weight, kValue, g, kPromoted) &&
      matrix_map(&x, kValue, g.x, g.tokens, g.in, g.x_stride, S::kTokenRows, 64, kPromoted) &&
      matrix_map(&y, kValue, g.y, g.tokens, width, width, S::kChunk, kSilu ? 32 : 64) &&
      matrix_map(&addend, kValue, g.addend ? g.addend : g.y, g.tokens, width, width, S::kChunk, kSilu ? 32 : 64);
  if (!mapped) return false;

  const dim3 grid(2 * (S::kSplit ? size.units : std::min(size.units, processors / 2)));
  *status =
      launch_pairs(kernel, grid, S::kThreads, S::kBytes, stream, weight, x, addend, y, static_cast<const T*>(g.bias),
                   g.addend != nullptr, static_cast<Y*>(g.y), size, g.weight, qwen_vl_wait_words());
  return true;
}

}  // namespace

bool hopper_gemm(const QwenVlGemm& g, int shape, cudaStream_t stream, int* status) {
  const int unit = g.activation == kSiluMul ? 16 : 8;
  if (g.batch != 1 || g.y_stride || g.in % 8 || g.x_stride % 8 || g.out % unit || g.tokens > 1 << 24 ||
      !aligned(g.weight) || !aligned(g.x) || !aligned(g.y) || !aligned(g.addend) ||
      (g.activation != kNoActivation && g.addend) || (g.activation == kSiluMul && g.bias))
    return false;
  return with_format(g.format, [&](auto format) {
    using F = decltype(format);
    if constexpr (F::kOnGpu) {
      return g.dtype == F::kValues && g.in % F::kColumns == 0 &&
             F::Tiles::choose(g, shape, [&](auto tile) { return launch(tile, g, stream, status); });
    } else {
      return false;
    }
  });
}

}  // namespace qwen
#else
bool qwen::hopper_gemm(const QwenVlGemm&, int, cudaStream_t, int*) { return false; }
#endif

extern "C" int qwen_vl_gemm_hopper(const QwenVlGemm* gemm, int shape, cudaStream_t stream) {
  int status = QWEN_VL_OK;
  return qwen::hopper_gemm(*gemm, shape, stream, &status) ? status : QWEN_VL_UNSUPPORTED;
}

extern "C" int qwen_vl_gemm_tile(const void* weight, const void* x, void* y, const void* bias, const void* addend,
                                 long long tokens, long long in, long long out, int dtype, int float_output,
                                 int activation, int format, int shape, cudaStream_t stream) {
  QwenVlGemm g = qwen::product(tokens, in, out, dtype);
  g.weight = weight;
  g.x = x;
  g.y = y;
  g.bias = bias;
  g.addend = addend;
  g.float_output = float_output;
  g.activation = activation;
  g.format = format;
  return qwen_vl_gemm_hopper(&g, shape, stream);
}

extern "C" int qwen_vl_gemm_tiles() { return qwen::kHopperGemms; }
