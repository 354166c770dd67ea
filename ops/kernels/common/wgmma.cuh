// Warpgroup matrix instructions of sm_90a: 64 x N x 16, A in registers, B in 128-byte swizzled shared memory.
#pragma once

#include <type_traits>

#include "ops/kernels/common/mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QWEN_VL_HAS_WGMMA 1
#else
#define QWEN_VL_HAS_WGMMA 0
#endif

namespace qwen {

// Descriptor of a tile in shared memory: rows of 128 bytes, 16-byte units exchanged by (unit ^ row % 8), 8-row groups
// 1024 bytes apart; `panel` is the distance in bytes to the next 64 columns (used where columns are the N dimension).
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t address, uint32_t panel) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(panel >> 4) << 16 |
         static_cast<uint64_t>(1024 >> 4) << 32 | uint64_t(1) << 62;
}

#if QWEN_VL_HAS_WGMMA
__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Keeps uses of an accumulator behind the wait before it.
template <int N> __device__ __forceinline__ void wgmma_settle(float (&d)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(d[n][i])::"memory");
}
// Has what goes into these registers there before the instructions that follow.
template <int N> __device__ __forceinline__ void wgmma_settle(uint32_t (&a)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[n][i])::"memory");
}
// Makes shared memory written by this thread visible to the matrix instructions, before a barrier.
__device__ __forceinline__ void fence_stores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

#define QWEN_VL_D4(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define QWEN_VL_D16(n) QWEN_VL_D4(n), QWEN_VL_D4(n + 1), QWEN_VL_D4(n + 2), QWEN_VL_D4(n + 3)
#define QWEN_VL_D32(n) QWEN_VL_D16(n), QWEN_VL_D16(n + 4)
#define QWEN_VL_D64(n) QWEN_VL_D32(n), QWEN_VL_D32(n + 8)

// d (+)= a @ b. TRANSPOSED: b's rows are K and its columns N; otherwise its rows are N and its columns K.
// d[n] holds columns 8n .. 8n + 7 as a warp's m16n8 accumulator does; `accumulate` 0 overwrites d.

#define QWEN_VL_WGMMA_64(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; " \
               "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" \
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31 " \
               "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38; }" : QWEN_VL_D32(0) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

#define QWEN_VL_WGMMA_104(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %57, 0; " \
               "wgmma.mma_async.sync.aligned.m64n104k16.f32." TYPE "." TYPE " {" \
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
               "%48, %49, %50, %51 " \
               "}, {%52, %53, %54, %55}, %56, p, 1, 1, %58; }" : QWEN_VL_D32(0), QWEN_VL_D16(8), QWEN_VL_D4(12) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

#define QWEN_VL_WGMMA_128(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; " \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {" \
               "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63 " \
               "}, {%64, %65, %66, %67}, %68, p, 1, 1, %70; }" : QWEN_VL_D32(0), QWEN_VL_D32(8) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

// The accumulators' operands of N = 144.
#define QWEN_VL_FIRST_72 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71"

// And of N = 160, 192 and 256.
#define QWEN_VL_FIRST_80 QWEN_VL_FIRST_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define QWEN_VL_FIRST_96 \
  QWEN_VL_FIRST_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define QWEN_VL_FIRST_128 \
  QWEN_VL_FIRST_96 ", " \
                   "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
                   "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127 "

#define QWEN_VL_WGMMA_144(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %77, 0; " \
               "wgmma.mma_async.sync.aligned.m64n144k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_72 \
               "}, {%72, %73, %74, %75}, %76, p, 1, 1, %78; }" \
               : QWEN_VL_D32(0), QWEN_VL_D32(8), QWEN_VL_D4(16), QWEN_VL_D4(17) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

#define QWEN_VL_WGMMA_160(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %85, 0; " \
               "wgmma.mma_async.sync.aligned.m64n160k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_80 \
               "}, {%80, %81, %82, %83}, %84, p, 1, 1, %86; }" : QWEN_VL_D32(0), QWEN_VL_D32(8), QWEN_VL_D16(16) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

#define QWEN_VL_WGMMA_192(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %101, 0; " \
               "wgmma.mma_async.sync.aligned.m64n192k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_96 \
               "}, {%96, %97, %98, %99}, %100, p, 1, 1, %102; }" : QWEN_VL_D64(0), QWEN_VL_D32(16) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

#define QWEN_VL_WGMMA_256(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %133, 0; " \
               "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_128 \
               "}, {%128, %129, %130, %131}, %132, p, 1, 1, %134; }" : QWEN_VL_D64(0), QWEN_VL_D64(16) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSED ? 1 : 0))

template <typename T, int N, bool TRANSPOSED>
__device__ __forceinline__ void wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, int accumulate) {
  constexpr bool kHalf = std::is_same<T, __half>::value;
  static_assert(N == 64 || N == 104 || N == 128 || N == 144 || N == 160 || N == 192 || N == 256,
                "width without an instruction here");
  if constexpr (N == 64) {
    if constexpr (kHalf) QWEN_VL_WGMMA_64("f16");
    else QWEN_VL_WGMMA_64("bf16");
  } else if constexpr (N == 104) {
    if constexpr (kHalf) QWEN_VL_WGMMA_104("f16");
    else QWEN_VL_WGMMA_104("bf16");
  } else if constexpr (N == 128) {
    if constexpr (kHalf) QWEN_VL_WGMMA_128("f16");
    else QWEN_VL_WGMMA_128("bf16");
  } else if constexpr (N == 144) {
    if constexpr (kHalf) QWEN_VL_WGMMA_144("f16");
    else QWEN_VL_WGMMA_144("bf16");
  } else if constexpr (N == 160) {
    if constexpr (kHalf) QWEN_VL_WGMMA_160("f16");
    else QWEN_VL_WGMMA_160("bf16");
  } else if constexpr (N == 192) {
    if constexpr (kHalf) QWEN_VL_WGMMA_192("f16");
    else QWEN_VL_WGMMA_192("bf16");
  } else {
    if constexpr (kHalf) QWEN_VL_WGMMA_256("f16");
    else QWEN_VL_WGMMA_256("bf16");
  }
}
#endif

}  // namespace qwen
