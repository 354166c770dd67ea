#include "ops/kernels/common/card.h"

#include "ops/kernels/common/per_device.h"

qwen::Card qwen::card() {
  return once_per_device(nullptr, [] {
    Card card{};
    int device = 0, clock_khz = 0, bus_bits = 0;
    const auto ask = [&](cudaDeviceAttr attribute, int& value) {
      return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess;
    };
    if (cudaGetDevice(&device) != cudaSuccess || !ask(cudaDevAttrMultiProcessorCount, card.multiprocessors) ||
        !ask(cudaDevAttrMaxSharedMemoryPerBlockOptin, card.shared_bytes) ||
        !ask(cudaDevAttrMemoryClockRate, clock_khz) || !ask(cudaDevAttrGlobalMemoryBusWidth, bus_bits)) {
      cudaGetLastError();  // the failure is answered, and is not to be found by the next caller
      return Card{};
    }
    card.read_rate = 2e3 * clock_khz * bus_bits / 8;  // twice a clock
    return card;
  });
}
