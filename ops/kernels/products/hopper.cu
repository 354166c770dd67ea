#include "ops/kernels/products/hopper.h"

#include <algorithm>

#include "ops/kernels/common/e5m7.h"
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

// The weights in boxes of box_rows, of 64 columns or a granule of E5M7.
// INTERLEAVED: of gate over up; boxes alternate between 8 rows of the one and 8 of the other.
template <bool PACKED, bool INTERLEAVED>
bool weight_map(CUtensorMap* map, MapValue value, const QwenVlGemm& g, int box_rows, bool promoted) {
    // For the map, granules that stand together are one row of values of eight bytes.
    constexpr int kTogether = PACKED ? kE5m7Rows : 1, kEight = 8 / kTogether;
    const int box_columns = PACKED ? kE5m7TileBytes / 8 : 64, swizzle = PACKED ? 0 : 128;
    const long long rows = g.out / kTogether, columns = PACKED ? g.in / kE5m7Columns * box_columns : g.in;
    if (PACKED) value = MapValue::kEightBytes;
    if (INTERLEAVED) {
        const long long sizes[4] = {columns, kEight, 2, g.out / 16};
        const long long strides[3] = {columns, rows / 2 * columns, kEight * columns};
        const int box[4] = {box_columns, kEight, 2, box_rows / 16};
        return encode_tensor_map(map, value, g.weight, 4, sizes, strides, box, swizzle, promoted);
    }
    const long long sizes[2] = {columns, rows}, strides[1] = {columns};
    const int box[2] = {box_columns, box_rows / kTogether};
    return encode_tensor_map(map, value, g.weight, 2, sizes, strides, box, swizzle, promoted);
}

template <typename T, typename S, int ACTIVATION, typename Y = T>
bool launch(const QwenVlGemm& g, cudaStream_t stream, int* status) {
    const auto kernel = gemm_kernel<T, S, ACTIVATION, Y>;
    const int processors = multiprocessors();
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
    size.units = S::kCommon == Common::kWeights ? size.tiles_m * ceil_div(size.tiles_n, 2)
                 : S::kCommon == Common::kTokens ? ceil_div(size.tiles_m, 2) * size.tiles_n
                                              : size.tiles_m * size.tiles_n;
    const long long width = kSilu ? g.out / 2 : g.out;
    // The 1664 bytes of eight granules are not whole blocks of 256: what comes with them costs L2's rate, which counts
    // with many tokens, and is read later, which counts with few.
    constexpr bool kPromoted = !S::kPacked || S::kN <= 64;
    if (!qwen_vl_wait_words()) return false;
    CUtensorMap weight, x, addend, y;
    const bool mapped =
        weight_map<S::kPacked, kSilu>(&weight, kValue, g, S::kWeightRows, kPromoted) &&
        matrix_map(&x, kValue, g.x, g.tokens, g.in, g.x_stride, S::kTokenRows, 64, kPromoted) &&
        matrix_map(&y, kValue, g.y, g.tokens, width, width, S::kChunk, kSilu ? 32 : 64) &&
        matrix_map(&addend, kValue, g.addend ? g.addend : g.y, g.tokens, width, width, S::kChunk, kSilu ? 32 : 64);
    if (!mapped) return false;

    const dim3 grid(2 * (S::kSplit ? size.units : std::min(size.units, processors / 2)));
    *status = launch_pairs(kernel, grid, S::kThreads, S::kBytes, stream, weight, x, addend, y,
                           static_cast<const T*>(g.bias), g.addend != nullptr, static_cast<Y*>(g.y), size, qwen_vl_wait_words());
    return true;
}

// Each fills 132 processors once or twice at some shapes of the published 7B model; which one is fastest is timed.
using Wide = GemmShape<2, 256, 4, 128, Common::kTokens, true>;      // 128 x 256
using Prompt = GemmShape<3, 144, 5, 144, Common::kWeights, false>;  // 192 x 144
using Half = GemmShape<2, 144, 6, 72, Common::kDepth, true>;        // 128 x 144, half of the depth a block
// For weights in E5M7: the two narrow ones, two for few tokens, where only the way of the weights counts, and the wide
// one.
using PackedPrompt = GemmShape<3, 144, 6, 144, Common::kWeights, false, 3>;
using PackedHalf = GemmShape<2, 144, 7, 72, Common::kDepth, true, 3>;
using PackedFew = GemmShape<3, 64, 5, 64, Common::kTokens, true, 4>;       // 192 x 64
using PackedFewHalf = GemmShape<1, 64, 8, 32, Common::kDepth, true, 10>;   // 64 x 64, half of the depth a block
using PackedWide = GemmShape<2, 256, 4, 64, Common::kTokens, true, 3>;     // 128 x 256

bool choose_packed(const QwenVlGemm& g, int shape, cudaStream_t stream, int* status) {
    using T = __half;
    if (g.float_output) return shape == 2 && launch<T, PackedFew, kNoActivation, float>(g, stream, status);
    if (g.activation == kSiluMul) {
        if (shape == 0) return launch<T, PackedPrompt, kSiluMul>(g, stream, status);
        if (shape == 2) return launch<T, PackedFew, kSiluMul>(g, stream, status);
        return shape == 4 && launch<T, PackedWide, kSiluMul>(g, stream, status);
    }
    if (shape == 0) return launch<T, PackedPrompt, kNoActivation>(g, stream, status);
    if (shape == 1) return launch<T, PackedHalf, kNoActivation>(g, stream, status);
    if (shape == 2) return launch<T, PackedFew, kNoActivation>(g, stream, status);
    if (shape == 3) return launch<T, PackedFewHalf, kNoActivation>(g, stream, status);
    return shape == 4 && launch<T, PackedWide, kNoActivation>(g, stream, status);
}

template <typename T> bool choose(const QwenVlGemm& g, int shape, cudaStream_t stream, int* status) {
    if (g.activation == kGelu) return shape == 0 && launch<T, Wide, kGelu>(g, stream, status);
    if (g.activation == kSiluMul) return shape == 1 && launch<T, Prompt, kSiluMul>(g, stream, status);
    if (shape == 0) return launch<T, Wide, kNoActivation>(g, stream, status);
    return shape == 2 && launch<T, Half, kNoActivation>(g, stream, status);
}

}  // namespace

bool hopper_gemm(const QwenVlGemm& g, int shape, cudaStream_t stream, int* status) {
    constexpr int kFewestTokens = 64;  // below, a tile would be mostly empty
    const int unit = g.activation == kSiluMul ? 16 : 8;
    if (g.batch != 1 || g.y_stride || g.in % 8 || g.x_stride % 8 || g.out % unit || g.tokens > 1 << 24 ||
        !aligned(g.weight) || !aligned(g.x) || !aligned(g.y) || !aligned(g.addend) ||
        (g.activation != kNoActivation && g.addend) || (g.activation == kSiluMul && g.bias))
        return false;
    if (g.e5m7) {
        if (g.dtype != kFloat16 || g.in % kE5m7Columns || g.activation == kGelu ||
            (g.float_output && (g.addend || g.activation != kNoActivation)))
            return false;
        return choose_packed(g, shape, stream, status);
    }
    if (g.float_output || g.tokens < kFewestTokens) return false;
    return with_dtype(g.dtype, [&](auto type) { return choose<decltype(type)>(g, shape, stream, status); });
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
                                 int activation, int e5m7, int shape, cudaStream_t stream) {
    QwenVlGemm g = qwen::product(tokens, in, out, dtype);
    g.weight = weight;
    g.x = x;
    g.y = y;
    g.bias = bias;
    g.addend = addend;
    g.float_output = float_output;
    g.activation = activation;
    g.e5m7 = e5m7;
    return qwen_vl_gemm_hopper(&g, shape, stream);
}

extern "C" int qwen_vl_gemm_tiles() { return qwen::kHopperGemms; }
