// Where RoIAlign samples: the one definition that the CPU and the CUDA kernels share.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace maskray {

// The settings of one call; the scale, cells per pixel, is that of a map.
struct RoiAlignSettings {
  int64_t pooled_height;
  int64_t pooled_width;
  int64_t sampling_ratio;
  bool aligned;
};

// One axis of one RoI in feature cells; `grid` samples per bin (kept as T: a huge box has more than an int holds),
// 0 where nothing is to be sampled.
template <class T>
struct RoiAxis {
  T start;
  T bin;
  T grid;
};

template <class T>
MASKRAY_HOST_DEVICE RoiAxis<T> roi_axis(T low, T high, int64_t pooled, T scale, const RoiAlignSettings& settings) {
  const T offset = settings.aligned ? T(0.5) : T(0);
  const T start = low * scale - offset;
  T size = high * scale - offset - start;
  if (!settings.aligned && size < T(1)) {
    size = T(1);
  }
  const T bin = size / static_cast<T>(pooled);
  // Written so that a NaN fails it: a box without a finite, positive extent has no samples.
  const bool sampled = size > T(0) && size <= T(1e30) && start >= T(-1e30) && start <= T(1e30);
  if (!sampled) {
    return {T(0), T(0), T(0)};
  }
  return {start, bin, settings.sampling_ratio > 0 ? static_cast<T>(settings.sampling_ratio) : std::ceil(bin)};
}

template <class T>
struct RoiAxes {
  RoiAxis<T> rows, columns;
};

// Of a box (image index, x0, y0, x1, y1).
template <class T>
MASKRAY_HOST_DEVICE RoiAxes<T> roi_axes(const T* box, double spatial_scale, const RoiAlignSettings& settings) {
  const T scale = static_cast<T>(spatial_scale);
  return {
      roi_axis(box[2], box[4], settings.pooled_height, scale, settings),
      roi_axis(box[1], box[3], settings.pooled_width, scale, settings)};
}

template <class T>
MASKRAY_HOST_DEVICE T sample_position(const RoiAxis<T>& axis, int64_t pooled_index, T sample) {
  return axis.start + static_cast<T>(pooled_index) * axis.bin + (sample + T(0.5)) * axis.bin / axis.grid;
}

// The samples of a bin that may lie in [-1, extent]: `first` and how many. Bounds the work for a box far larger than
// the map, all of whose other samples are 0.
template <class T>
MASKRAY_HOST_DEVICE void sample_range(
    const RoiAxis<T>& axis, int64_t pooled_index, int64_t extent, T& first, int64_t& count) {
  first = T(0);
  if (axis.grid <= T(16)) {
    count = static_cast<int64_t>(axis.grid);
    return;
  }
  const T base = axis.start + static_cast<T>(pooled_index) * axis.bin;
  const T step = axis.bin / axis.grid;
  const T low = std::floor((T(-1) - base) / step) - T(2);
  const T high = std::ceil((static_cast<T>(extent) - base) / step) + T(2);
  first = low > T(0) ? (low < axis.grid ? low : axis.grid) : T(0);
  const T last = high < axis.grid - T(1) ? high : axis.grid - T(1);
  const T limit = static_cast<T>(extent) * (T(1) / step) + T(16);
  const T wanted = last - first + T(1);
  const T bounded = wanted < limit ? wanted : limit;
  count = bounded > T(0) ? static_cast<int64_t>(bounded < T(1e9) ? bounded : T(1e9)) : 0;
}

// The two cells that a sample reads and their weights; false where it lies outside the map and is 0.
template <class T>
MASKRAY_HOST_DEVICE bool linear_weights(
    T position, int64_t extent, int64_t& low, int64_t& high, T& low_weight, T& high_weight) {
  if (!(extent > 0 && position >= T(-1) && position <= static_cast<T>(extent))) {
    return false;
  }
  if (position < T(0)) {
    position = T(0);
  }
  low = static_cast<int64_t>(position);
  if (low >= extent - 1) {
    low = extent - 1;
    high = low;
    position = static_cast<T>(low);
  } else {
    high = low + 1;
  }
  high_weight = position - static_cast<T>(low);
  low_weight = T(1) - high_weight;
  return true;
}

// What the sum of samples is divided by.
template <class T>
MASKRAY_HOST_DEVICE T sample_count(const RoiAxes<T>& axes) {
  const T count = axes.rows.grid * axes.columns.grid;
  return count > T(1) ? count : T(1);
}

}  // namespace maskray
