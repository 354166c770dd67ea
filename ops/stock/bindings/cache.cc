// write_cache_kv.
#include "ops/stock/kernels/cache.h"

#include "ops/stock/bindings/tensors.h"

namespace stock {
namespace {

void write(const Tensor& input_k, const Tensor& input_v, const Tensor& cache_kv, const Tensor& sequence_lengths) {
  qwen_vl::check_rank(input_k, "input_k", 4);
  qwen_vl::check_rank(cache_kv, "cache_kv", 5);
  const Shape shape = input_k.shape(), cache = cache_kv.shape();
  qwen_vl::check_shape(input_v, "input_v", shape);
  qwen_vl::check_shape(cache_kv, "cache_kv", {2, cache[1], shape[1], cache[3], shape[3]});
  PD_CHECK(cache[1] >= shape[0], "cache_kv has ", cache[1], " rows for a batch of ", shape[0]);
  check_rows(sequence_lengths, "sequence_lengths", shape[0]);
  qwen_vl::check_type(input_k, "input_k", cache_kv.dtype());
  qwen_vl::check_type(input_v, "input_v", cache_kv.dtype());
  check_on(input_k, "input_k", cache_kv);
  check_on(input_v, "input_v", cache_kv);
  PD_CHECK(shape[3] * phi::SizeOf(cache_kv.dtype()) % sizeof(Unit16) == 0, "heads of ", shape[3],
           " elements are no multiple of 16 bytes");
  const int count = unit_count<Unit16>(cache_kv.dtype(), shape[3]);
  each(cache_kv, shape[0] * shape[1] * shape[2] * count,
       WriteCache{units<const Unit16>(input_k), units<const Unit16>(input_v), units<Unit16>(cache_kv),
                  data_on<const int>(sequence_lengths, "sequence_lengths", cache_kv), static_cast<int>(cache[1]),
                  static_cast<int>(shape[1]), static_cast<int>(shape[2]), static_cast<int>(cache[3]), count});
}

}  // namespace
}  // namespace stock

PD_BUILD_OP(write_cache_kv)
    .Inputs({"input_k", "input_v", "cache_kv", "sequence_lengths"})
    .Outputs({"cache_kv_out"})
    .SetInplaceMap({{"cache_kv", "cache_kv_out"}})
    .SetKernelFn(PD_KERNEL(stock::write));
