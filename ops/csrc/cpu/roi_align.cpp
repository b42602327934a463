// RoIAlign with the mean of its samples, and its gradient, on the CPU.
//
// The mean is a weighted sum whose weights are a product of one factor per axis, so that each cell is read once per bin
// however many samples fall beside it. Every sum is made in one order: the result does not depend on the threads.
#include <torch/csrc/stable/library.h>

#include "roi_source.h"

namespace maskray {
namespace {

template <class T>
struct Scratch {
  AxisTaps<T> rows, columns;
  std::vector<int32_t> used_rows;
  std::vector<T> patch, bins;
};

template <class T>
void pool(const Tensor& features, const Tensor& boxes, const RoiAlignSettings& settings, Tensor& output) {
  const int64_t num_boxes = boxes.size(0);
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, num_boxes, features.size(0));
  const RoiSource<T> source(features, box_data, num_boxes, settings);
  const int64_t channels = source.channels();
  const int64_t bins = settings.pooled_height * settings.pooled_width;
  T* result = static_cast<T*>(output.mutable_data_ptr());
  torch::stable::parallel_for(0, num_boxes, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    scratch.bins.resize(bins * channels);
    for (int64_t k = begin; k < end; ++k) {
      const T* box = box_data + 5 * k;
      T* out = result + k * channels * bins;
      scratch.columns.build_merged(
          roi_axis(box[1], box[3], settings.pooled_width, settings), settings.pooled_width, source.width());
      scratch.rows.build_merged(
          roi_axis(box[2], box[4], settings.pooled_height, settings), settings.pooled_height, source.height());
      if (scratch.rows.empty() || scratch.columns.empty()) {
        std::fill_n(out, channels * bins, T(0));
        continue;
      }
      int64_t row_stride = 0;
      const T* base = source.locate(
          static_cast<int64_t>(box[0]), scratch.rows, scratch.columns, scratch.used_rows, scratch.patch, row_stride);
      channel_kernels<T>().pool_mean(
          base, row_stride, channels, scratch.rows.view(), scratch.columns.view(),
          sample_count(scratch.rows.axis, scratch.columns.axis), scratch.bins.data());
      channel_kernels<T>().transpose(scratch.bins.data(), channels, bins, channels, out, bins);
    }
  });
}

// The gradient of a block of channels of one image, summed with the channels side by side and then turned around.
template <class T>
void scatter_channels(
    const T* grad, const T* boxes, const std::vector<int64_t>& rois, const RoiAlignSettings& settings,
    int64_t channels, int64_t first_channel, int64_t num_channels, int64_t height, int64_t width, Scratch<T>& scratch,
    T* image) {
  const int64_t bins = settings.pooled_height * settings.pooled_width;
  const auto& kernels = channel_kernels<T>();
  scratch.patch.assign(height * width * num_channels, T(0));
  scratch.bins.resize(bins * num_channels);
  for (const int64_t k : rois) {
    const T* box = boxes + 5 * k;
    scratch.columns.build_merged(
        roi_axis(box[1], box[3], settings.pooled_width, settings), settings.pooled_width, width);
    scratch.rows.build_merged(
        roi_axis(box[2], box[4], settings.pooled_height, settings), settings.pooled_height, height);
    if (scratch.rows.empty() || scratch.columns.empty()) {
      continue;
    }
    kernels.transpose(
        grad + (k * channels + first_channel) * bins, bins, num_channels, bins, scratch.bins.data(), num_channels);
    kernels.scatter_mean(
        scratch.patch.data(), width * num_channels, num_channels, scratch.rows.view(), scratch.columns.view(),
        sample_count(scratch.rows.axis, scratch.columns.axis), scratch.bins.data());
  }
  const int64_t cells = height * width;
  kernels.transpose(scratch.patch.data(), num_channels, cells, num_channels, image + first_channel * cells, cells);
}

template <class T>
void scatter(const Tensor& grad, const Tensor& boxes, const RoiAlignSettings& settings, Tensor& result) {
  const int64_t images = result.size(0), channels = result.size(1), height = result.size(2), width = result.size(3);
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, boxes.size(0), images);
  std::vector<std::vector<int64_t>> rois(images);
  for (int64_t k = 0; k < boxes.size(0); ++k) {
    rois[static_cast<int64_t>(box_data[5 * k])].push_back(k);
  }
  constexpr int64_t block = 128 / sizeof(T);
  const int64_t blocks = (channels + block - 1) / block;
  const T* grad_data = static_cast<const T*>(grad.const_data_ptr());
  T* out = static_cast<T*>(result.mutable_data_ptr());
  torch::stable::parallel_for(0, images * blocks, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / blocks;
      const int64_t first = i % blocks * block;
      scatter_channels(
          grad_data, box_data, rois[image], settings, channels, first, std::min(block, channels - first), height,
          width, scratch, out + image * channels * height * width);
    }
  });
}

Tensor roi_align(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType stored = features.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(features, boxes, pooled_height, pooled_width, type);
  const RoiAlignSettings settings{pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned};
  const Tensor computed = stored == type ? features : torch::stable::to(features, type);
  Tensor output =
      torch::stable::new_empty(computed, {boxes.size(0), features.size(1), pooled_height, pooled_width});
  if (output.numel() > 0) {
    check(features.size(2) > 0 && features.size(3) > 0, "features: height and width must not be 0");
    const Tensor dense = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? pool<double>(computed, dense, settings, output)
                               : pool<float>(computed, dense, settings, output);
  }
  return stored == type ? output : torch::stable::to(output, stored);
}

Tensor roi_align_backward(
    Tensor grad, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType stored = grad.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(grad, boxes, 1, 1, type);
  check(grad.size(0) == boxes.size(0), "grad: expected as many rows as boxes");
  const RoiAlignSettings settings{grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned};
  const Tensor dense = torch::stable::contiguous(stored == type ? grad : torch::stable::to(grad, type));
  Tensor result = torch::stable::new_empty(dense, {num_images, grad.size(1), height, width});
  if (result.numel() > 0) {
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? scatter<double>(dense, dense_boxes, settings, result)
                               : scatter<float>(dense, dense_boxes, settings, result);
  }
  return stored == type ? result : torch::stable::to(result, stored);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
}

}  // namespace maskray
