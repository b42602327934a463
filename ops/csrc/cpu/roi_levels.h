// What RoIAlign's mean and maximum on the CPU share: the levels of one call, and the tensors they return.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <vector>

#include "../arguments.h"
#include "huge_pages.h"
#include "roi_groups.h"
#include "roi_source.h"

namespace maskray {

// The pooled size and sampling of one call, and the scale of each level.
struct LevelSettings {
  RoiAlignSettings common;
  std::vector<double> scales;
};

// The taps of both axes of one RoI.
template <class T>
struct RoiTaps {
  AxisTaps<T> rows, columns;

  void build_merged(const T* box, const LevelSettings& settings, int64_t level, int64_t height, int64_t width) {
    const RoiAxes<T> axes = roi_axes(box, settings.scales[level], settings.common);
    columns.build_merged(axes.columns, settings.common.pooled_width, width);
    rows.build_merged(axes.rows, settings.common.pooled_height, height);
  }

  void build_samples(const T* box, const LevelSettings& settings, int64_t level, int64_t height, int64_t width) {
    const RoiAxes<T> axes = roi_axes(box, settings.scales[level], settings.common);
    columns.build_samples(axes.columns, settings.common.pooled_width, width);
    rows.build_samples(axes.rows, settings.common.pooled_height, height);
  }

  bool empty() const { return rows.empty() || columns.empty(); }
  T count() const { return sample_count(RoiAxes<T>{rows.axis, columns.axis}); }
};

template <class T>
struct MeanScratch {
  std::vector<int32_t> used_rows;
  std::vector<T> patch, bins;
};

// Channels that are worked on together where a map is turned around: of a large map they stay in the cache.
template <class T>
constexpr int64_t kBlock = 128 / sizeof(T);

inline std::vector<Tensor> to_type(const std::vector<Tensor>& tensors, ScalarType type) {
  std::vector<Tensor> result;
  result.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    result.push_back(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
  }
  return result;
}

inline Tensor to_dense(const Tensor& tensor, ScalarType type) {
  return torch::stable::contiguous(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

template <class T>
std::vector<RoiSource<T>> to_sources(
    const std::vector<Tensor>& features, const T* boxes, const RoiGroups& groups, const LevelSettings& settings) {
  std::vector<RoiSource<T>> sources;
  sources.reserve(features.size());
  for (size_t level = 0; level < features.size(); ++level) {
    sources.emplace_back(features[level], boxes, groups.of_level(level), settings.scales[level], settings.common);
  }
  return sources;
}

}  // namespace maskray
