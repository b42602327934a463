// RoIAlign with the maximum of its samples, and its gradient, on the CPU: of one map and of the levels of a pyramid.
#include <torch/csrc/stable/library.h>

#include "roi_levels.h"

namespace maskray {
namespace {

const int64_t* level_data(const Tensor* levels) {
  return levels == nullptr ? nullptr : static_cast<const int64_t*>(levels->const_data_ptr());
}

template <class T>
struct Scratch {
  RoiTaps<T> taps;
  std::vector<int32_t> used_rows, argmax;
  std::vector<T> patch, bins;
};

// One RoI: its bins (C, h, w) and the sample that each was taken from.
template <class T>
void pool_roi(
    const RoiSource<T>& source, const T* box, const LevelSettings& settings, int64_t level, Scratch<T>& scratch, T* out,
    int32_t* out_argument) {
  const int64_t channels = source.channels();
  const int64_t bins = settings.common.pooled_height * settings.common.pooled_width;
  RoiTaps<T>& taps = scratch.taps;
  taps.build_samples(box, settings, level, source.height(), source.width());
  if (taps.empty()) {
    std::fill_n(out, channels * bins, T(0));
    std::fill_n(out_argument, channels * bins, -1);
    return;
  }
  scratch.bins.resize(bins * channels);
  scratch.argmax.resize(bins * channels);
  int64_t row_stride = 0;
  const T* base = source.locate(
      static_cast<int64_t>(box[0]), taps.rows, taps.columns, scratch.used_rows, scratch.patch, row_stride);
  channel_kernels<T>().pool_max(
      base, row_stride, channels, taps.rows.view(), taps.columns.view(), taps.rows.outside(), taps.columns.outside(),
      scratch.bins.data(), scratch.argmax.data());
  channel_kernels<T>().transpose(scratch.bins.data(), channels, bins, channels, out, bins);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t b = 0; b < bins; ++b) {
      out_argument[c * bins + b] = scratch.argmax[b * channels + c];
    }
  }
}

template <class T>
void pool(
    const std::vector<Tensor>& features, const Tensor& boxes, const Tensor* levels, const LevelSettings& settings,
    Tensor& output, Tensor& argmax) {
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  const RoiGroups groups(box_data, level_data(levels), boxes.size(0), features.size(), features[0].size(0));
  std::vector<RoiSource<T>> sources = to_sources(features, box_data, groups, settings);
  for (RoiSource<T>& source : sources) {
    source.turn_around();
  }
  const int64_t values = output.numel() / boxes.size(0);
  T* result = static_cast<T*>(output.mutable_data_ptr());
  int32_t* arguments = static_cast<int32_t*>(argmax.mutable_data_ptr());
  advise_huge_pages(result, output.numel() * sizeof(T));
  advise_huge_pages(arguments, output.numel() * sizeof(int32_t));
  const int64_t* level_of = level_data(levels);
  share_tasks(boxes.size(0), [&](const auto& next) {
    Scratch<T> scratch;
    for (int64_t k = next(); k < boxes.size(0); k = next()) {
      const int64_t level = level_of == nullptr ? 0 : level_of[k];
      pool_roi(sources[level], box_data + 5 * k, settings, level, scratch, result + k * values, arguments + k * values);
    }
  });
}

// Adds one RoI's gradient of one channel to that channel's map.
template <class T>
void scatter_channel(
    const TapView<T>& rows, const TapView<T>& columns, int64_t width, const T* grad, const int32_t* argmax, T* map) {
  for (int64_t p = 0; p < rows.pooled; ++p) {
    for (int64_t q = 0; q < columns.pooled; ++q, ++grad, ++argmax) {
      const int64_t samples = (columns.begin[q + 1] - columns.begin[q]) / 2;
      const int64_t row_samples = (rows.begin[p + 1] - rows.begin[p]) / 2;
      if (*argmax < 0 || *argmax >= samples * row_samples) {
        continue;
      }
      const int64_t r = rows.begin[p] + 2 * (*argmax / samples);
      const int64_t c = columns.begin[q] + 2 * (*argmax % samples);
      for (int64_t i = r; i < r + 2; ++i) {
        for (int64_t j = c; j < c + 2; ++j) {
          map[rows.cell[i] * width + columns.cell[j]] += rows.weight[i] * columns.weight[j] * *grad;
        }
      }
    }
  }
}

// The gradient of channels first .. last - 1 of one map, zeroed and then summed in the order of the boxes.
template <class T>
void scatter_map(
    const T* grad, const int32_t* argmax, const T* boxes, const std::vector<int64_t>& rois,
    const LevelSettings& settings, int64_t level, int64_t channels, int64_t first, int64_t last, int64_t height,
    int64_t width, RoiTaps<T>& taps, T* map) {
  const int64_t bins = settings.common.pooled_height * settings.common.pooled_width, cells = height * width;
  std::fill_n(map + first * cells, (last - first) * cells, T(0));
  for (const int64_t k : rois) {
    taps.build_samples(boxes + 5 * k, settings, level, height, width);
    for (int64_t c = first; c < last && !taps.empty(); ++c) {
      const int64_t offset = (k * channels + c) * bins;
      scatter_channel(taps.rows.view(), taps.columns.view(), width, grad + offset, argmax + offset, map + c * cells);
    }
  }
}

template <class T>
void scatter(
    const Tensor& grad, const Tensor& argmax, const Tensor& boxes, const Tensor* levels, const LevelSettings& settings,
    std::vector<Tensor>& results) {
  const int64_t channels = grad.size(1);
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  const RoiGroups groups(box_data, level_data(levels), boxes.size(0), results.size(), results[0].size(0));
  const T* grad_data = static_cast<const T*>(grad.const_data_ptr());
  const int32_t* arguments = static_cast<const int32_t*>(argmax.const_data_ptr());
  for (Tensor& result : results) {
    advise_huge_pages(result.mutable_data_ptr(), result.numel() * sizeof(T));
  }
  // A task owns its channels: the sums are made in the order of the boxes, however many threads there are.
  constexpr int64_t block = 32;
  const int64_t blocks = (channels + block - 1) / block;
  const int64_t count = groups.rois.size() * blocks;
  share_tasks(count, [&](const auto& next) {
    RoiTaps<T> taps;
    for (int64_t i = next(); i < count; i = next()) {
      const int64_t map = i / blocks, first = i % blocks * block, level = map / groups.num_images;
      const int64_t height = results[level].size(2), width = results[level].size(3);
      T* image =
          static_cast<T*>(results[level].mutable_data_ptr()) + map % groups.num_images * channels * height * width;
      scatter_map(
          grad_data, arguments, box_data, groups.rois[map], settings, level, channels, first,
          std::min(first + block, channels), height, width, taps, image);
    }
  });
}

std::tuple<Tensor, Tensor> pool_levels(
    const std::vector<Tensor>& features, const Tensor& boxes, const Tensor* levels, const LevelSettings& settings) {
  const ScalarType stored = features[0].scalar_type();
  const ScalarType type = compute_type(stored);
  const auto& common = settings.common;
  for (const Tensor& level : features) {
    check_roi_arguments(level, boxes, common.pooled_height, common.pooled_width, type);
    check_not_empty(level, boxes);
  }
  const std::vector<Tensor> computed = to_type(features, type);
  Tensor output = torch::stable::new_empty(
      computed[0], {boxes.size(0), features[0].size(1), common.pooled_height, common.pooled_width});
  Tensor argmax = torch::stable::new_empty(output, output.sizes(), ScalarType::Int);
  if (output.numel() > 0) {
    const Tensor dense = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? pool<double>(computed, dense, levels, settings, output, argmax)
                               : pool<float>(computed, dense, levels, settings, output, argmax);
  }
  return {stored == type ? output : torch::stable::to(output, stored), argmax};
}

std::vector<Tensor> level_gradients(
    const Tensor& grad, const Tensor& argmax, const Tensor& boxes, const Tensor* levels, int64_t num_images,
    const std::vector<int64_t>& heights, const std::vector<int64_t>& widths, const LevelSettings& settings) {
  const ScalarType type = compute_type(grad.scalar_type());
  check_roi_arguments(grad, boxes, 1, 1, type);
  check_argmax(grad, argmax, boxes);
  const Tensor dense = to_dense(grad, type);
  std::vector<Tensor> results;
  results.reserve(heights.size());
  for (size_t i = 0; i < heights.size(); ++i) {
    results.push_back(new_map(dense, num_images, grad.size(1), heights[i], widths[i], type, false));
  }
  if (num_images > 0 && grad.size(1) > 0) {
    const Tensor arguments = torch::stable::contiguous(argmax);
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? scatter<double>(dense, arguments, dense_boxes, levels, settings, results)
                               : scatter<float>(dense, arguments, dense_boxes, levels, settings, results);
  }
  return to_type(results, grad.scalar_type());
}

std::tuple<Tensor, Tensor> roi_align_max(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  return pool_levels(
      {features}, boxes, nullptr, {{pooled_height, pooled_width, sampling_ratio, aligned}, {spatial_scale}});
}

Tensor roi_align_max_backward(
    Tensor grad, Tensor argmax, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned, bool /*deterministic: always*/) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  return level_gradients(
      grad, argmax, boxes, nullptr, num_images, {height}, {width},
      {{grad.size(2), grad.size(3), sampling_ratio, aligned}, {spatial_scale}})[0];
}

std::tuple<Tensor, Tensor> multi_level_roi_align_max(
    std::vector<Tensor> features, Tensor boxes, Tensor levels, int64_t pooled_height, int64_t pooled_width,
    std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned) {
  check_levels(features, boxes, levels, spatial_scales);
  const Tensor dense = torch::stable::contiguous(levels);
  return pool_levels(features, boxes, &dense, {{pooled_height, pooled_width, sampling_ratio, aligned}, spatial_scales});
}

std::vector<Tensor> multi_level_roi_align_max_backward(
    Tensor grad, Tensor argmax, Tensor boxes, Tensor levels, int64_t num_images, std::vector<int64_t> heights,
    std::vector<int64_t> widths, std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned,
    bool /*deterministic: always*/) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  check_level_sizes(boxes, levels, heights, widths, spatial_scales);
  const Tensor dense = torch::stable::contiguous(levels);
  return level_gradients(
      grad, argmax, boxes, &dense, num_images, heights, widths,
      {{grad.size(2), grad.size(3), sampling_ratio, aligned}, spatial_scales});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("roi_align_max", TORCH_BOX(&roi_align_max));
  m.impl("roi_align_max_backward", TORCH_BOX(&roi_align_max_backward));
  m.impl("multi_level_roi_align_max", TORCH_BOX(&multi_level_roi_align_max));
  m.impl("multi_level_roi_align_max_backward", TORCH_BOX(&multi_level_roi_align_max_backward));
}

}  // namespace maskray
