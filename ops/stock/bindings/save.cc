// save_with_output: hands the tokens of every step to another process through files.
#include <filesystem>
#include <fstream>

#include "ops/stock/bindings/tensors.h"

namespace stock {
namespace {

using paddle::DataType;

char type_code(DataType type) {
  switch (type) {
    case DataType::FLOAT32: return '0';
    case DataType::INT64: return '1';
    case DataType::INT32: return '2';
    default: PD_THROW("x has type ", phi::DataTypeToString(type), ", expected float32, int64 or int32");
  }
}

// The file's name tells rank, batch and step, each unless negative. Its first byte says '1' for whole, its second the
// type; the values follow. It is renamed into place, so that readers never see half of it.
std::vector<Tensor> save(const Tensor& x, const Tensor& batch_idx, const Tensor& step_idx, std::string file_path,
                         int64_t rank_id) {
  const char type = type_code(x.dtype());
  check_rows(batch_idx, "batch_idx", 1);
  check_rows(step_idx, "step_idx", 1);
  const paddle::CPUPlace host;
  Tensor values = x.copy_to(host, true);
  const Tensor batch = batch_idx.copy_to(host, true), step = step_idx.copy_to(host, true);
  const int batch_number = *qwen_vl::data<const int>(batch, "batch_idx");
  const int64_t step_number = *qwen_vl::data<const long long>(step, "step_idx");
  if (rank_id >= 0) file_path += "_rank_" + std::to_string(rank_id);
  if (batch_number >= 0) file_path += "_batch_" + std::to_string(batch_number);
  if (step_number >= 0) file_path += "_step_" + std::to_string(step_number);

  const std::filesystem::path path(file_path), partial(file_path + ".partial");
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  std::ofstream file(partial, std::ios::binary);
  file.put('1').put(type).write(static_cast<const char*>(values.data()), values.numel() * phi::SizeOf(x.dtype()));
  file.close();
  PD_CHECK(!file.fail(), "cannot write ", partial.string(), ": is the folder writable, and the disk not full?");
  std::filesystem::rename(partial, path);
  return {values};
}

std::vector<Shape> save_shape(const Shape& x, const Shape&, const Shape&) { return {x}; }
std::vector<DataType> save_type(const DataType& x, const DataType&, const DataType&) { return {x}; }

}  // namespace
}  // namespace stock

PD_BUILD_OP(save_with_output)
    .Inputs({"x", "batch_idx", "step_idx"})
    .Outputs({"out"})
    .Attrs({"file_path: std::string", "rank_id: int64_t"})
    .SetKernelFn(PD_KERNEL(stock::save))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::save_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::save_type));
