// Which cells RoIPool takes for a bin: the one definition that the CPU and the CUDA kernels share.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace maskray {

// One axis of one RoI in whole cells; `size` 0 where the box is not finite.
template <class T>
struct PoolAxis {
  int64_t start;
  int64_t size;
};

template <class T>
MASKRAY_HOST_DEVICE PoolAxis<T> pool_axis(T low, T high, double spatial_scale) {
  const T start = std::round(low * static_cast<T>(spatial_scale));
  const T end = std::round(high * static_cast<T>(spatial_scale));
  const bool finite = start >= T(-1e9) && start <= T(1e9) && end >= T(-1e9) && end <= T(1e9);
  if (!finite) {
    return {0, 0};
  }
  // The end is inclusive, and a box covers at least one cell.
  const int64_t size = static_cast<int64_t>(end) - static_cast<int64_t>(start) + 1;
  return {static_cast<int64_t>(start), size > 1 ? size : 1};
}

// Cells first <= i < last of a bin, inside the map; none where the axis has no size.
template <class T>
MASKRAY_HOST_DEVICE void pool_cells(
    const PoolAxis<T>& axis, int64_t pooled, int64_t pooled_index, int64_t extent, int64_t& first, int64_t& last) {
  const T bin = static_cast<T>(axis.size) / static_cast<T>(pooled);
  first = static_cast<int64_t>(std::floor(static_cast<T>(pooled_index) * bin)) + axis.start;
  last = static_cast<int64_t>(std::ceil(static_cast<T>(pooled_index + 1) * bin)) + axis.start;
  first = first < 0 ? 0 : (first > extent ? extent : first);
  last = last < 0 ? 0 : (last > extent ? extent : last);
  if (axis.size == 0) {
    last = first;
  }
}

}  // namespace maskray
