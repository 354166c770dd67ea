// What a weight format is, for C++: a struct of traits in the format.h of its folder, and a line in registry.h. The
// object in the folder's __init__.py has the same facts for Python.
#pragma once
#include <cstdint>
#include <string_view>

#include "ops/kernels/common/anywhere.h"
#include "ops/kernels/common/arguments.h"

namespace qwen {

// What all of them have. VALUES: the type of an unpacked weight (the launchers' `dtype`), in which products are done on
// a GPU; GPU: whether the CUDA kernels read it, else the CPU operators do, unless kOnCpu says that they do as well; BITS:
// of a weight in its matrix.
//
// To these a format adds
//   kName      its folder's name;
//   for the CPU operators, `static void unpack(const void* matrix, const void* extra, int64_t first, int64_t rows,
//              int64_t columns, float* to)`: so many rows of a matrix from row `first` on;
//   Lanes<V>   where numbers stand together by lanes, for quick products on a CPU (lane_products.h);
//   for the CUDA kernels, where __CUDACC__ is defined,
//   Value      the C++ type of VALUES;
//   Share      what a lane of the decode kernel holds of a row, and how it becomes operands (decode/weights.cuh);
//   Tiles      the tile shapes of the products of many rows (products/tile.cuh);
//   unpack     `static int unpack(const void* from, void* to, long long rows, long long columns, cudaStream_t)`, for
//              products that no tile shape takes; a plain format has none.
template <int VALUES, bool GPU, int BITS, bool PLAIN = false> struct Format {
  static constexpr int kValues = VALUES, kBits = BITS;
  static constexpr bool kOnGpu = GPU, kOnCpu = !GPU;  // which operators read it; on the CPU their values are float32
  static constexpr bool kPlain = PLAIN;             // an array of such values, in tensors of their type
  static constexpr int kColumns = 8, kRows = 1;     // a packed matrix has a multiple of each; kRows stand together

  // Of so many columns of a row, a multiple of kColumns; and of a whole row of a matrix, which may have more besides.
  // Those of a packed one are whole words of 32 bits.
  QWEN_VL_ANYWHERE static constexpr int64_t bytes_of(int64_t columns) { return columns * kBits / 8; }
  QWEN_VL_ANYWHERE static constexpr int64_t row_bytes(int64_t columns) { return bytes_of(columns); }
  // Of what the format adds to a matrix, one tensor of such words; 0: none.
  static constexpr int64_t extra_bytes(int64_t /*rows*/, int64_t /*columns*/) { return 0; }
  template <class V> using Lanes = void;
};

// The list of formats, in the order in which their headers are read. Each declares an overload of `formats` that is
// preferred to those before it, and returns one format more.
template <class... F> struct FormatList {
  static constexpr int kSize = sizeof...(F);
};
constexpr int kMostFormats = 64;
template <int N> struct Place : Place<N - 1> {};
template <> struct Place<0> {};
FormatList<> formats(Place<0>);
template <class F, class... Before> FormatList<Before..., F> with(FormatList<Before...>);

}  // namespace qwen

#define QWEN_VL_FORMATS decltype(::qwen::formats(::qwen::Place<::qwen::kMostFormats>{}))
// Puts a format into the list; only headers that registry.h includes say it.
#define QWEN_VL_FORMAT(F) \
  namespace qwen { \
  static_assert(!F::kOnGpu || F::extra_bytes(F::kRows, F::kColumns) == 0, "no kernel is handed what it adds yet"); \
  decltype(with<F>(QWEN_VL_FORMATS{})) formats(Place<QWEN_VL_FORMATS::kSize + 1>); \
  }
