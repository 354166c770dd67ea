// cuBLASLt, as far as products need it: its functions, the descriptors of one product, and what it suggests for it.
#pragma once

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "ops/formats/registry.h"
#include "ops/kernels/products/gemm.h"

namespace qwen {

// The cuBLASLt that the process has loaded already, never one that the loader would find: with Paddle it is the one
// that ops/cuda_libraries.py chose and gave the bare name, with torch the one that torch brings.
struct CublasLt {
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
    bool complete = true;
    auto bind = [&](auto& pointer, const char* name) {
      pointer = reinterpret_cast<std::decay_t<decltype(pointer)>>(dlsym(so, name));
      complete = complete && pointer;
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
    return complete;
  }
};

// The largest power of two up to 256 that divides all of the addresses.
inline uint32_t alignment(std::initializer_list<const void*> addresses, long long stride_bytes = 0) {
  uintptr_t bits = 256 | static_cast<uintptr_t>(stride_bytes);
  for (const void* address : addresses) bits |= reinterpret_cast<uintptr_t>(address);
  return static_cast<uint32_t>(bits & (~bits + 1));
}
inline long long weight_bytes(const QwenVlGemm& g, long long rows) { return format_bytes(g.format, rows, g.in); }
inline bool is_packed(const QwenVlGemm& g) { return g.format != g.dtype; }
inline uint32_t weight_alignment(const QwenVlGemm& g) {
  return alignment({g.weight}, g.layers > 0 ? weight_bytes(g, g.out) : 0);
}
inline uint32_t x_alignment(const QwenVlGemm& g) { return alignment({g.x}); }
inline uint32_t y_alignment(const QwenVlGemm& g) { return alignment({g.y, g.addend}); }

inline long long y_stride(const QwenVlGemm& g) { return g.y_stride ? g.y_stride : g.out; }

// The descriptors of one product; freed with it.
struct CublasLtPlan {
  const CublasLt& lt;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  bool ok = true;

  CublasLtPlan(const CublasLt& library, const QwenVlGemm& g) : lt(library) {
    const cudaDataType_t half = g.dtype == kFloat16 ? CUDA_R_16F : CUDA_R_16BF;
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
  ~CublasLtPlan() {
    for (auto* layout : {a, b, c, d})
      if (layout) lt.layout_destroy(layout);
    if (desc) lt.desc_destroy(desc);
  }
  CublasLtPlan(const CublasLtPlan&) = delete;
  // At most `wanted` algorithms.
  std::vector<cublasLtMatmulAlgo_t> suggestions(cublasLtHandle_t handle, const QwenVlGemm& g, int wanted) const {
    std::vector<cublasLtMatmulHeuristicResult_t> results(wanted);
    std::vector<cublasLtMatmulAlgo_t> algorithms;
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
      for (const auto& [attribute, value] : alignments) lt.preference_set(preference, attribute, &value, sizeof value);
      lt.heuristic(handle, desc, a, b, c, d, preference, wanted, results.data(), &count);
      lt.preference_destroy(preference);
    }
    for (int i = 0; i < count; ++i)
      if (results[i].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(results[i].algo);
    return algorithms;
  }

  // Whether an algorithm that was chosen with other rows can do this product.
  bool can(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulHeuristicResult_t checked;
    return lt.check(handle, desc, a, b, c, d, &algorithm, &checked) == CUBLAS_STATUS_SUCCESS &&
           checked.workspaceSize <= QWEN_VL_GEMM_WORKSPACE;
  }

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

}  // namespace qwen
