// RoIAlign with the mean of its samples, and its gradient, on the CPU: of one map and of the levels of a pyramid.
//
// The mean is a weighted sum whose weights are a product of one factor per axis, so that each cell is read once per bin
// however many samples fall beside it. Every sum is made in one order: the result does not depend on the threads.
#include <torch/csrc/stable/library.h>

#include "roi_mean_gradient.h"
#include "roi_mean_pooling.h"

namespace maskray {
namespace {

Tensor pool_levels(
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
  if (output.numel() > 0) {
    const Tensor dense = torch::stable::contiguous(boxes);
    advise_huge_pages(output.mutable_data_ptr(), output.numel() * (type == ScalarType::Double ? 8 : 4));
    type == ScalarType::Double ? MeanPooling<double>(computed, dense, levels, settings, output).run()
                               : MeanPooling<float>(computed, dense, levels, settings, output).run();
  }
  return stored == type ? output : torch::stable::to(output, stored);
}

std::vector<Tensor> level_gradients(
    const Tensor& grad, const Tensor& boxes, const Tensor* levels, int64_t num_images,
    const std::vector<int64_t>& heights, const std::vector<int64_t>& widths, const LevelSettings& settings,
    bool channels_last) {
  const ScalarType type = compute_type(grad.scalar_type());
  check_roi_arguments(grad, boxes, 1, 1, type);
  check(grad.size(0) == boxes.size(0), "grad: expected as many rows as boxes");
  const Tensor dense = to_dense(grad, type);
  std::vector<Tensor> results;
  results.reserve(heights.size());
  for (size_t i = 0; i < heights.size(); ++i) {
    results.push_back(new_map(dense, num_images, grad.size(1), heights[i], widths[i], type, channels_last));
  }
  if (num_images > 0 && grad.size(1) > 0) {
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? MeanGradient<double>(dense, dense_boxes, levels, settings, results).run()
                               : MeanGradient<float>(dense, dense_boxes, levels, settings, results).run();
  }
  return to_type(results, grad.scalar_type());
}

Tensor roi_align(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  return pool_levels(
      {features}, boxes, nullptr, {{pooled_height, pooled_width, sampling_ratio, aligned}, {spatial_scale}});
}

Tensor roi_align_backward(
    Tensor grad, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned, bool channels_last, bool /*deterministic: always*/) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  return level_gradients(
      grad, boxes, nullptr, num_images, {height}, {width},
      {{grad.size(2), grad.size(3), sampling_ratio, aligned}, {spatial_scale}}, channels_last)[0];
}

Tensor multi_level_roi_align(
    std::vector<Tensor> features, Tensor boxes, Tensor levels, int64_t pooled_height, int64_t pooled_width,
    std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned) {
  check_levels(features, boxes, levels, spatial_scales);
  const Tensor dense = torch::stable::contiguous(levels);
  return pool_levels(features, boxes, &dense, {{pooled_height, pooled_width, sampling_ratio, aligned}, spatial_scales});
}

std::vector<Tensor> multi_level_roi_align_backward(
    Tensor grad, Tensor boxes, Tensor levels, int64_t num_images, std::vector<int64_t> heights,
    std::vector<int64_t> widths, std::vector<double> spatial_scales, int64_t sampling_ratio, bool aligned,
    bool channels_last, bool /*deterministic: always*/) {
  check(grad.dim() == 4, "grad: expected (K, C, h, w)");
  check_level_sizes(boxes, levels, heights, widths, spatial_scales);
  const Tensor dense = torch::stable::contiguous(levels);
  return level_gradients(
      grad, boxes, &dense, num_images, heights, widths,
      {{grad.size(2), grad.size(3), sampling_ratio, aligned}, spatial_scales}, channels_last);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
  m.impl("multi_level_roi_align", TORCH_BOX(&multi_level_roi_align));
  m.impl("multi_level_roi_align_backward", TORCH_BOX(&multi_level_roi_align_backward));
}

}  // namespace maskray
