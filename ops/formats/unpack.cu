#include "ops/formats/unpack.h"

#include "ops/formats/registry.h"
#include "ops/kernels/common/status.h"

extern "C" int qwen_vl_unpack(int format, const void* from, void* to, long long rows, long long columns,
                              cudaStream_t stream) {
  return qwen::with_format(format, [&](auto traits) -> int {
    using Format = decltype(traits);
    if constexpr (Format::kOnGpu && !Format::kPlain) {
      if (rows % Format::kRows == 0 && columns % Format::kColumns == 0)
        return Format::unpack(from, to, rows, columns, stream);
    }
    return QWEN_VL_UNSUPPORTED;
  });
}
