// Warpgroup matrix instructions of sm_90a with both operands in 128-byte swizzled shared memory: 64 x N x 16.
#pragma once

#include "wgmma.cuh"

#if QWEN_VL_HAS_WGMMA
namespace qwen {

#define QWEN_VL_D64(n) QWEN_VL_D32(n), QWEN_VL_D32(n + 8)

#define QWEN_VL_WGMMA_SHARED_144(TYPE) \
    asm volatile( \
        "{ .reg .pred p; setp.ne.b32 p, %74, 0; " \
        "wgmma.mma_async.sync.aligned.m64n144k16.f32." TYPE "." TYPE " {" \
        QWEN_VL_FIRST_72 \
        "}, %72, %73, p, 1, 1, 0, 0; }" \
        : QWEN_VL_D64(0), QWEN_VL_D4(16), QWEN_VL_D4(17) \
        : "l"(a), "l"(b), "r"(accumulate))

#define QWEN_VL_WGMMA_SHARED_256(TYPE) \
    asm volatile( \
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; " \
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {" \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127 " \
        "}, %128, %129, p, 1, 1, 0, 0; }" \
        : QWEN_VL_D64(0), QWEN_VL_D64(16) \
        : "l"(a), "l"(b), "r"(accumulate))

// d (+)= a @ b^T; a has 64 rows, b N, both of 16 columns. d[n] holds columns 8n .. 8n + 7 as a warp's m16n8
// accumulator does; `accumulate` 0 overwrites d.
template <typename T, int N>
__device__ __forceinline__ void wgmma_shared(float (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) {
    constexpr bool kHalf = std::is_same<T, __half>::value;
    static_assert(N == 144 || N == 256, "width without an instruction here");
    if constexpr (N == 144 && kHalf) QWEN_VL_WGMMA_SHARED_144("f16");
    else if constexpr (N == 144) QWEN_VL_WGMMA_SHARED_144("bf16");
    else if constexpr (N == 256 && kHalf) QWEN_VL_WGMMA_SHARED_256("f16");
    else if constexpr (N == 256) QWEN_VL_WGMMA_SHARED_256("bf16");
}

}  // namespace qwen
#endif
