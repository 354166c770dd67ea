// The CPU's loop over rows of norm.h, for any type that converts to and from float.
#pragma once
#include <cmath>

#include "norm.h"

namespace stock {

template <typename T>
void norm_cpu(const Norm& norm) {
  const T *const weight = static_cast<const T*>(norm.weight), *const bias = static_cast<const T*>(norm.bias);
  const int width = norm.width;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < norm.rows; ++row) {
    const T* const x = static_cast<const T*>(norm.x) + row * width;
    T* const y = static_cast<T*>(norm.y) + row * width;
    double sum = 0, square = 0;
    if (bias != nullptr)
      for (int i = 0; i < width; ++i) sum += static_cast<float>(x[i]);
    const float mean = static_cast<float>(sum / width);
    for (int i = 0; i < width; ++i) {
      const double value = static_cast<float>(x[i]) - mean;
      square += value * value;
    }
    const float scale = static_cast<float>(1 / std::sqrt(square / width + norm.epsilon));
    for (int i = 0; i < width; ++i) {
      const float normed = (static_cast<float>(x[i]) - mean) * scale, w = static_cast<float>(weight[i]);
      y[i] = static_cast<T>(bias != nullptr ? normed * w + static_cast<float>(bias[i])
                                            : static_cast<float>(static_cast<T>(normed)) * w);
    }
    norm.inverse_deviation[row] = scale;
    if (bias != nullptr) norm.mean[row] = mean;
  }
}

}  // namespace stock
