#include "ops/kernels/products/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "ops/kernels/common/arguments.h"
#include "ops/kernels/common/e5m7.cuh"
#include "ops/kernels/common/e5m7.h"
#include "ops/kernels/common/per_device.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/products/activation.h"
#include "ops/kernels/products/hopper.h"
#include "ops/kernels/products/rung.h"

namespace {

constexpr int kCandidates = 48;
constexpr int kTimedRuns = 3, kFinalists = 6, kFinalRounds = 2;
constexpr float kNever = 1e30f;  // the time of what does not run
constexpr long long kUnpackedBytes = 32ll << 20, kUnpackedRows = 128;  // of weights at once, at most and at least

// The cuBLASLt that the process has loaded already, never one that the loader would find: with Paddle it is the one that
// ops/cuda_libraries.py chose and gave the bare name, with torch the one that torch brings.
struct Library {
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulDescCreate) desc_create;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    decltype(&cublasLtMatmulAlgoCheck) check;

    bool load() {
        void* so = nullptr;
        for (const char* name : {"libcublasLt.so", "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"})
            if (!so) so = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
        if (!so) return false;
        bool found = true;
        auto bind = [&](auto& pointer, const char* name) {
            pointer = reinterpret_cast<std::decay_t<decltype(pointer)>>(dlsym(so, name));
            found = found && pointer;
        };
        bind(create, "cublasLtCreate");
        bind(destroy, "cublasLtDestroy");
        bind(matmul, "cublasLtMatmul");
        bind(desc_create, "cublasLtMatmulDescCreate");
        bind(desc_destroy, "cublasLtMatmulDescDestroy");
        bind(desc_set, "cublasLtMatmulDescSetAttribute");
        bind(layout_create, "cublasLtMatrixLayoutCreate");
        bind(layout_destroy, "cublasLtMatrixLayoutDestroy");
        bind(layout_set, "cublasLtMatrixLayoutSetAttribute");
        bind(preference_create, "cublasLtMatmulPreferenceCreate");
        bind(preference_destroy, "cublasLtMatmulPreferenceDestroy");
        bind(preference_set, "cublasLtMatmulPreferenceSetAttribute");
        bind(heuristic, "cublasLtMatmulAlgoGetHeuristic");
        bind(check, "cublasLtMatmulAlgoCheck");
        return found;
    }
};

// The largest power of two up to 256 that divides all of the addresses.
uint32_t alignment(std::initializer_list<const void*> addresses, long long stride_bytes = 0) {
    uintptr_t bits = 256 | static_cast<uintptr_t>(stride_bytes);
    for (const void* address : addresses) bits |= reinterpret_cast<uintptr_t>(address);
    return static_cast<uint32_t>(bits & (~bits + 1));
}
long long weight_bytes(const QwenVlGemm& g, long long values) {
    return g.e5m7 ? qwen_vl_e5m7_bytes(values) : values * 2;
}
uint32_t weight_alignment(const QwenVlGemm& g) { return alignment({g.weight}, weight_bytes(g, g.layer_stride)); }
uint32_t x_alignment(const QwenVlGemm& g) { return alignment({g.x}); }
uint32_t y_alignment(const QwenVlGemm& g) { return alignment({g.y, g.addend}); }

long long y_stride(const QwenVlGemm& g) { return g.y_stride ? g.y_stride : g.out; }

// What products have in common that differ by their rows alone, or by how many groups of rows share an addend.
using Key = std::array<long long, 16>;

Key key_of(const QwenVlGemm& g) {
    return {g.in, g.out, g.x_stride, g.batch > 1, g.batch > 1 ? g.addend_batch : 0, g.dtype, g.float_output,
            g.activation, g.bias != nullptr, g.addend != nullptr, g.addend == g.y, weight_alignment(g), x_alignment(g),
            y_alignment(g), y_stride(g), g.e5m7};
}

// The descriptors of one product; freed with it.
struct Plan {
    const Library& lt;
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
    bool ok = true;

    Plan(const Library& library, const QwenVlGemm& g) : lt(library) {
        const cudaDataType_t half = g.dtype == qwen::kFloat16 ? CUDA_R_16F : CUDA_R_16BF;
        const cudaDataType_t output = g.float_output ? CUDA_R_32F : half;
        const cublasOperation_t transposed = CUBLAS_OP_T;
        must(lt.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        must(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
        if (g.bias) {
            const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
            must(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
            must(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias, sizeof g.bias));
            must(lt.desc_set(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &half, sizeof half));
        }
        // Row-major matrices are column-major transposes: y^T [out, tokens] = weight [out, in] x^T [in, tokens].
        must(layout(a, half, g.in, g.out, g.in, g.batch, 0));
        must(layout(b, half, g.in, g.tokens, g.x_stride, g.batch, g.x_batch));
        must(layout(c, output, g.out, g.tokens, y_stride(g), g.batch, g.addend == g.y ? g.y_batch : g.addend_batch));
        must(layout(d, output, g.out, g.tokens, y_stride(g), g.batch, g.y_batch));
    }
    ~Plan() {
        for (auto* layout : {a, b, c, d})
            if (layout) lt.layout_destroy(layout);
        if (desc) lt.desc_destroy(desc);
    }
    Plan(const Plan&) = delete;

    void must(cublasStatus_t status) { ok = ok && status == CUBLAS_STATUS_SUCCESS; }

    cublasStatus_t layout(cublasLtMatrixLayout_t& out, cudaDataType_t type, long long rows, long long columns,
                          long long stride, long long batch, long long batch_stride) {
        const cublasStatus_t status = lt.layout_create(&out, type, rows, columns, stride);
        if (status != CUBLAS_STATUS_SUCCESS || batch == 1) return status;
        const int32_t count = static_cast<int32_t>(batch);
        const int64_t values = batch_stride;
        must(lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
        return lt.layout_set(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &values, sizeof values);
    }
};

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
    return *qwen::once_per_device(nullptr, [] { return new Choices; });
}

thread_local int tuning = 0;

// The tile shapes that can do a product.
std::vector<Choice> tile_shapes(const QwenVlGemm& g) {
    std::vector<Choice> found;
    for (int shape = 0; shape < qwen::kHopperGemms; ++shape)
        if (qwen::hopper_gemm(g, shape, nullptr, nullptr)) found.push_back({shape, {}});
    return found;
}

// Rows of weights to unpack at once where no tile shape takes them as they are.
long long unpacked_rows(const QwenVlGemm& g) {
    const long long rows = kUnpackedBytes / (g.in * 2) / kUnpackedRows * kUnpackedRows;
    return std::min(g.out, std::max(rows, kUnpackedRows));
}

// What an activation that is a pass of its own makes of the product.
int activate(const QwenVlGemm& g, void* product, cudaStream_t stream) {
    if (g.activation == qwen::kGelu) return qwen_vl_gelu(product, g.tokens * g.out, g.dtype, stream);
    if (g.activation == qwen::kSiluMul)
        return qwen_vl_silu_mul(product, g.y, g.tokens, static_cast<int>(g.out / 2), g.dtype, stream);
    return QWEN_VL_OK;
}

// Unpacks slices of the weight's rows; the product of each is columns of the whole one.
int gemm_unpacked(QwenVlContext* context, const QwenVlGemm& g, cudaStream_t stream) {
    if (g.dtype != qwen::kFloat16 || g.batch != 1 || g.out % qwen::kE5m7Rows || !g.unpacked) return QWEN_VL_UNSUPPORTED;
    void* product = g.activation == qwen::kSiluMul ? g.wide : g.y;
    const int value_bytes = g.float_output ? 4 : 2;
    QwenVlGemm slice = g;
    slice.weight = g.unpacked;
    slice.y_stride = y_stride(g);
    slice.activation = qwen::kNoActivation;
    slice.layers = slice.e5m7 = 0;
    slice.layer_stride = 0;
    for (long long row = 0; row < g.out; row += slice.out) {
        slice.out = std::min(unpacked_rows(g), g.out - row);
        slice.bias = g.bias ? static_cast<const char*>(g.bias) + row * 2 : nullptr;
        slice.y = static_cast<char*>(product) + row * value_bytes;
        slice.addend = g.addend ? static_cast<const char*>(g.addend) + row * value_bytes : nullptr;
        QWEN_VL_TRY(qwen_vl_e5m7_unpack(static_cast<const char*>(g.weight) + weight_bytes(g, row * g.in), g.unpacked,
                                        slice.out, g.in, stream));
        QWEN_VL_TRY(qwen_vl_gemm(context, &slice, stream));
    }
    return activate(g, product, stream);
}

}  // namespace

struct QwenVlContext {
    Library lt;
    cublasLtHandle_t handle = nullptr;
    void* workspace = nullptr;

    int run(const Plan& plan, const QwenVlGemm& g, const Choice& choice, cudaStream_t stream) const {
        int status = QWEN_VL_UNSUPPORTED;
        if (choice.shape >= 0) {
            qwen::hopper_gemm(g, choice.shape, stream, &status);
            return status;
        }
        const float one = 1.f, beta = g.addend ? 1.f : 0.f;
        void* d = g.activation == qwen::kSiluMul ? g.wide : g.y;
        if (lt.matmul(handle, plan.desc, &one, g.weight, plan.a, g.x, plan.b, &beta, g.addend ? g.addend : d, plan.c, d,
                      plan.d, &choice.algorithm, workspace, QWEN_VL_GEMM_WORKSPACE, stream) != CUBLAS_STATUS_SUCCESS)
            return QWEN_VL_BLAS_REFUSED;
        return activate(g, d, stream);
    }

    std::vector<Choice> candidates(const Plan& plan, const QwenVlGemm& g, int wanted) const {
        std::vector<cublasLtMatmulHeuristicResult_t> results(wanted);
        std::vector<Choice> found;
        cublasLtMatmulPreference_t preference = nullptr;
        int count = 0;
        if (lt.preference_create(&preference) == CUBLAS_STATUS_SUCCESS) {
            const uint64_t bytes = QWEN_VL_GEMM_WORKSPACE;
            lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
            const std::pair<cublasLtMatmulPreferenceAttributes_t, uint32_t> alignments[] = {
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weight_alignment(g)},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x_alignment(g)},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y_alignment(g)},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y_alignment(g)}};
            for (const auto& [attribute, value] : alignments)
                lt.preference_set(preference, attribute, &value, sizeof value);
            lt.heuristic(handle, plan.desc, plan.a, plan.b, plan.c, plan.d, preference, wanted, results.data(), &count);
            lt.preference_destroy(preference);
        }
        for (int i = 0; i < count; ++i)
            if (results[i].state == CUBLAS_STATUS_SUCCESS) found.push_back({-1, results[i].algo});
        return found;
    }

    // The fastest candidate. Each is timed once, where there are many; then the kFinalists fastest in turns, by their
    // medians over kTimedRuns, since the clock moves and the luckiest of many is not the fastest. Results go to a
    // scratch buffer, so that y stays as it is.
    int fastest(const Plan& plan, const QwenVlGemm& g, const std::vector<Choice>& found, cudaStream_t stream,
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
                timed.weight = static_cast<const char*>(g.weight) + other * weight_bytes(g, g.layer_stride);
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
        const bool many = found.size() > kFinalists;
        for (size_t i = 0; i < found.size(); ++i) order.emplace_back(many ? median(found[i], 1) : 0.f, i);
        std::sort(order.begin(), order.end());
        order.resize(std::min(order.size(), size_t(kFinalists)));
        for (int round = 0; round < kFinalRounds; ++round)
            for (auto& [time, index] : order)
                if (time < kNever) time += median(found[index], kTimedRuns);
        for (auto& event : events) cudaEventDestroy(event);
        const auto first = *std::min_element(order.begin(), order.end());
        *best = found[first.second];
        error = cudaFree(scratch);
        return first.first < kNever ? int(error) : int(QWEN_VL_BLAS_REFUSED);
    }

    // Whether a way that was chosen with other rows can do this product.
    bool can(const Plan& plan, const QwenVlGemm& g, const Choice& choice) const {
        if (choice.shape >= 0) return qwen::hopper_gemm(g, choice.shape, nullptr, nullptr);
        cublasLtMatmulHeuristicResult_t checked;
        return lt.check(handle, plan.desc, plan.a, plan.b, plan.c, plan.d, &choice.algorithm, &checked) ==
                   CUBLAS_STATUS_SUCCESS && checked.workspaceSize <= QWEN_VL_GEMM_WORKSPACE;
    }

    // At most `suggested` algorithms of cuBLASLt and every tile shape; for weights in E5M7 tile shapes alone.
    std::vector<Choice> ways(const Plan& plan, const QwenVlGemm& g, int suggested) const {
        std::vector<Choice> found;
        if (!g.e5m7) found = candidates(plan, g, suggested);
        for (const Choice& shape : tile_shapes(g)) found.push_back(shape);
        return found;
    }

    // How to do a product; see qwen_vl_gemm.
    int choose(const Plan& plan, const QwenVlGemm& g, cudaStream_t stream, Choice* choice) const {
        cudaStreamCaptureStatus capture;
        QWEN_VL_TRY(cudaStreamIsCapturing(stream, &capture));
        const long long rung = qwen::gemm_rung(g.tokens);
        Choices& all = choices();
        const std::lock_guard<std::mutex> lock(all.mutex);
        auto& [timed, suggested] = all.known[key_of(g)];
        if (tuning && capture == cudaStreamCaptureStatusNone && !timed.count(rung)) {
            const std::vector<Choice> found = ways(plan, g, kCandidates);
            if (found.empty()) return QWEN_VL_BLAS_REFUSED;
            *choice = found[0];
            if (found.size() > 1) QWEN_VL_TRY(fastest(plan, g, found, stream, choice));
            timed[rung] = *choice;
        }
        if (!timed.empty()) {
            const auto next = timed.lower_bound(rung);
            *choice = next != timed.end() ? next->second : timed.rbegin()->second;
            if (can(plan, g, *choice)) return QWEN_VL_OK;
        }
        const auto before = suggested.find(rung);
        if (before != suggested.end() && can(plan, g, *choice = before->second)) return QWEN_VL_OK;
        const std::vector<Choice> found = ways(plan, g, 1);
        if (found.empty()) return QWEN_VL_BLAS_REFUSED;
        *choice = suggested[rung] = found[0];
        return QWEN_VL_OK;
    }
};

extern "C" int qwen_vl_gemm_tuning(int on) { return std::exchange(tuning, on); }

extern "C" long long qwen_vl_gemm_rung(long long rows) { return qwen::gemm_rung(rows); }

extern "C" int qwen_vl_context_create(QwenVlContext** context, void* workspace) {
    qwen_vl_wait_words();  // allocates, which a launch within a capture could not
    auto* made = new QwenVlContext;
    made->workspace = workspace;
    if (!made->lt.load() || made->lt.create(&made->handle) != CUBLAS_STATUS_SUCCESS) {
        delete made;
        return QWEN_VL_BLAS_MISSING;
    }
    *context = made;
    return QWEN_VL_OK;
}

extern "C" void qwen_vl_context_destroy(QwenVlContext* context) {
    if (!context) return;
    context->lt.destroy(context->handle);
    delete context;
}

extern "C" size_t qwen_vl_gemm_unpacked_bytes(const QwenVlGemm* gemm) {
    return gemm->e5m7 && tile_shapes(*gemm).empty() ? unpacked_rows(*gemm) * gemm->in * 2 : 0;
}

extern "C" int qwen_vl_gemm(QwenVlContext* context, const QwenVlGemm* gemm, cudaStream_t stream) {
    const QwenVlGemm& g = *gemm;
    if (g.tokens == 0) return QWEN_VL_OK;
    if (g.e5m7 && tile_shapes(g).empty()) return gemm_unpacked(context, g, stream);
    const Plan plan(context->lt, g);
    if (!plan.ok) return QWEN_VL_BLAS_REFUSED;
    Choice choice;
    QWEN_VL_TRY(context->choose(plan, g, stream, &choice));
    return context->run(plan, g, choice, stream);
}
