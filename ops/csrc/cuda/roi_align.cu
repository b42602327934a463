// RoIAlign with the mean of its samples, and its gradient, on CUDA: one thread per pooled value, whichever its level.
#include "gather.h"
#include "roi_bin.h"

namespace maskray {
namespace {

template <class T, class A>
__global__ void pool_kernel(
    LevelTable table, const A* boxes, RoiAlignSettings settings, int64_t channels, int64_t total, bool channels_fastest,
    T* output) {
  MASKRAY_GRID_LOOP(i, total) {
    const OutputIndex at(i, channels, settings.pooled_height, settings.pooled_width, channels_fastest);
    const int64_t level = table.find(boxes, at.box);
    if (level < 0) {
      output[at.offset] = static_cast<T>(static_cast<A>(NAN));
      continue;
    }
    const RoiBin<A> bin(table.maps[level], boxes + 5 * at.box, at, settings);
    A sum = A(0);
    SampleCells<A> y, x;
    for (int64_t r = 0; r < bin.samples.num_rows; ++r) {
      if (!bin.find_row(r, y)) {
        continue;
      }
      for (int64_t c = 0; c < bin.samples.num_columns; ++c) {
        if (bin.find_column(c, x)) {
          sum += bin.template read<T>(y, x);
        }
      }
    }
    output[at.offset] = static_cast<T>(sum / sample_count(bin.axes));
  }
}

template <class T, class A>
__global__ void scatter_kernel(
    LevelTable table, const T* grad, const A* boxes, RoiAlignSettings settings, int64_t channels, int64_t total,
    bool channels_fastest) {
  MASKRAY_GRID_LOOP(i, total) {
    const OutputIndex at(i, channels, settings.pooled_height, settings.pooled_width, channels_fastest);
    const int64_t level = table.find(boxes, at.box);
    if (level < 0) {
      continue;
    }
    const RoiBin<A> bin(table.maps[level], boxes + 5 * at.box, at, settings);
    const A value = static_cast<A>(grad[at.offset]) / sample_count(bin.axes);
    SampleCells<A> y, x;
    for (int64_t r = 0; r < bin.samples.num_rows; ++r) {
      if (!bin.find_row(r, y)) {
        continue;
      }
      for (int64_t c = 0; c < bin.samples.num_columns; ++c) {
        if (bin.find_column(c, x)) {
          bin.add(y, x, value);
        }
      }
    }
  }
}

Tensor pool_levels(
    std::vector<Tensor> features, const Tensor& boxes, const Tensor* levels, const std::vector<double>& scales,
    const RoiAlignSettings& settings) {
  const ScalarType type = features[0].scalar_type();
  for (const Tensor& level : features) {
    check_roi_arguments(level, boxes, settings.pooled_height, settings.pooled_width, compute_type(type));
    check_not_empty(level, boxes);
    check_same_device(boxes, level, "features");
  }
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  const int64_t channels = features[0].size(1);
  Tensor output =
      torch::stable::new_empty(features[0], {boxes.size(0), channels, settings.pooled_height, settings.pooled_width});
  if (output.numel() == 0) {
    return output;
  }
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  const LevelTable table(features, levels, scales);
  dispatch_floating(type, [&](auto* stored, auto* computed) {
    using T = std::remove_pointer_t<decltype(stored)>;
    using A = std::remove_pointer_t<decltype(computed)>;
    pool_kernel<T, A><<<num_blocks(output.numel()), kThreads, 0, current_stream(boxes)>>>(
        table, static_cast<const A*>(dense_boxes.const_data_ptr()), settings, channels, output.numel(),
        lies_channels_last(features[0]), static_cast<T*>(output.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

std::vector<Tensor> level_gradients(
    const Tensor& grad, const Tensor& boxes, const Tensor* levels, int64_t num_images,
    const std::vector<int64_t>& heights, const std::vector<int64_t>& widths, const std::vector<double>& scales,
    const RoiAlignSettings& settings, bool channels_last, bool deterministic) {
  const ScalarType type = grad.scalar_type();
  check_roi_arguments(grad, boxes, 1, 1, compute_type(type));
  check(grad.size(0) == boxes.size(0), "grad: expected as many rows as boxes");
  check_same_device(grad, boxes, "boxes");
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const int64_t channels = grad.size(1);
  const Tensor dense = torch::stable::contiguous(grad);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  std::vector<Tensor> results;
  results.reserve(heights.size());
  for (size_t i = 0; i < heights.size(); ++i) {
    results.push_back(
        new_map(dense, num_images, channels, heights[i], widths[i], compute_type(type), channels_last, true));
  }
  if (num_images > 0 && dense.numel() > 0) {
    const LevelTable table(results, levels, scales);
    dispatch_floating(type, [&](auto* stored, auto* computed) {
      using T = std::remove_pointer_t<decltype(stored)>;
      using A = std::remove_pointer_t<decltype(computed)>;
      const T* values = static_cast<const T*>(dense.const_data_ptr());
      const A* rows = static_cast<const A*>(dense_boxes.const_data_ptr());
      if (deterministic) {
        gather_levels<T, A>({values, nullptr, rows, boxes.size(0), channels, 0, settings, table}, current_stream(grad));
      } else {
        scatter_kernel<T, A><<<num_blocks(dense.numel()), kThreads, 0, current_stream(grad)>>>(
            table, values, rows, settings, channels, dense.numel(), channels_last);
      }
    });
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  for (Tensor& result : results) {
    result = compute_type(type) == type ? result : torch::stable::to(result, type);
  }
  return results;
}

Tensor roi_align(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  return pool_levels(
      {features}, boxes, nullptr, {spatial_scale}, {pooled_height, pooled_width, sampling_ratio, aligned});
}

Tensor roi_align_backward(
    Tensor grad, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned, bool channels_last, bool deterministic) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  return level_gradients(
      grad, boxes, nullptr, num_images, {height}, {width}, {spatial_scale},
      {grad.size(2), grad.size(3), sampling_ratio, aligned}, channels_last, deterministic)[0];
}

Tensor multi_level_roi_align(
    std::vector<Tensor> features, Tensor boxes, Tensor levels, int64_t pooled_height, int64_t pooled_width,
    std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned) {
  check_levels(features, boxes, levels, spatial_scales);
  check_same_device(features[0], levels, "levels");
  const Tensor dense = torch::stable::contiguous(levels);
  return pool_levels(features, boxes, &dense, spatial_scales, {pooled_height, pooled_width, sampling_ratio, aligned});
}

std::vector<Tensor> multi_level_roi_align_backward(
    Tensor grad, Tensor boxes, Tensor levels, int64_t num_images, std::vector<int64_t> heights,
    std::vector<int64_t> widths, std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned,
    bool channels_last, bool deterministic) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  check_level_sizes(boxes, levels, heights, widths, spatial_scales);
  check_same_device(grad, levels, "levels");
  const Tensor dense = torch::stable::contiguous(levels);
  return level_gradients(
      grad, boxes, &dense, num_images, heights, widths, spatial_scales,
      {grad.size(2), grad.size(3), sampling_ratio, aligned}, channels_last, deterministic);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  m.impl("multi_level_roi_align", TORCH_BOX(&multi_level_roi_align));
  m.impl("multi_level_roi_align_backward", TORCH_BOX(&multi_level_roi_align_backward));
}

}  // namespace maskray
