// RoIAlign with the maximum of its samples, and its gradient, on the CPU.
#include <torch/csrc/stable/library.h>

#include "roi_source.h"

namespace maskray {
namespace {

template <class T>
struct Scratch {
  AxisTaps<T> rows, columns;
  std::vector<int32_t> used_rows, argmax;
  std::vector<T> patch, bins;

  void sample(const T* box, const RoiAlignSettings& settings, int64_t height, int64_t width) {
    columns.build_samples(roi_axis(box[1], box[3], settings.pooled_width, settings), settings.pooled_width, width);
    rows.build_samples(roi_axis(box[2], box[4], settings.pooled_height, settings), settings.pooled_height, height);
  }
};

template <class T>
void pool(
    const Tensor& features, const Tensor& boxes, const RoiAlignSettings& settings, Tensor& output, Tensor& argmax) {
  const int64_t num_boxes = boxes.size(0);
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, num_boxes, features.size(0));
  const RoiSource<T> source(features, box_data, num_boxes, settings);
  const int64_t channels = source.channels();
  const int64_t bins = settings.pooled_height * settings.pooled_width;
  T* result = static_cast<T*>(output.mutable_data_ptr());
  int32_t* arguments = static_cast<int32_t*>(argmax.mutable_data_ptr());
  torch::stable::parallel_for(0, num_boxes, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    scratch.bins.resize(bins * channels);
    scratch.argmax.resize(bins * channels);
    for (int64_t k = begin; k < end; ++k) {
      const T* box = box_data + 5 * k;
      T* out = result + k * channels * bins;
      int32_t* out_argument = arguments + k * channels * bins;
      scratch.sample(box, settings, source.height(), source.width());
      if (scratch.rows.empty() || scratch.columns.empty()) {
        std::fill_n(out, channels * bins, T(0));
        std::fill_n(out_argument, channels * bins, -1);
        continue;
      }
      int64_t row_stride = 0;
      const T* base = source.locate(
          static_cast<int64_t>(box[0]), scratch.rows, scratch.columns, scratch.used_rows, scratch.patch, row_stride);
      channel_kernels<T>().pool_max(
          base, row_stride, channels, scratch.rows.view(), scratch.columns.view(), scratch.rows.outside(),
          scratch.columns.outside(), scratch.bins.data(), scratch.argmax.data());
      channel_kernels<T>().transpose(scratch.bins.data(), channels, bins, channels, out, bins);
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t b = 0; b < bins; ++b) {
          out_argument[c * bins + b] = scratch.argmax[b * channels + c];
        }
      }
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

template <class T>
void scatter(
    const Tensor& grad, const Tensor& argmax, const Tensor& boxes, const RoiAlignSettings& settings, Tensor& result) {
  const int64_t images = result.size(0), channels = result.size(1), height = result.size(2), width = result.size(3);
  const int64_t bins = settings.pooled_height * settings.pooled_width;
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, boxes.size(0), images);
  const T* grad_data = static_cast<const T*>(grad.const_data_ptr());
  const int32_t* arguments = static_cast<const int32_t*>(argmax.const_data_ptr());
  T* out = static_cast<T*>(result.mutable_data_ptr());
  // A thread owns its channels: the sums are made in the order of the boxes, however many threads there are.
  torch::stable::parallel_for(0, channels, 8, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    for (int64_t image = 0; image < images; ++image) {
      std::fill_n(out + (image * channels + begin) * height * width, (end - begin) * height * width, T(0));
    }
    for (int64_t k = 0; k < boxes.size(0); ++k) {
      const T* box = box_data + 5 * k;
      scratch.sample(box, settings, height, width);
      const int64_t image = static_cast<int64_t>(box[0]);
      for (int64_t c = begin; c < end && !scratch.rows.empty() && !scratch.columns.empty(); ++c) {
        const int64_t offset = (k * channels + c) * bins;
        scatter_channel(
            scratch.rows.view(), scratch.columns.view(), width, grad_data + offset, arguments + offset,
            out + (image * channels + c) * height * width);
      }
    }
  });
}

std::tuple<Tensor, Tensor> roi_align_max(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType stored = features.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(features, boxes, pooled_height, pooled_width, type);
  const RoiAlignSettings settings{pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned};
  const Tensor computed = stored == type ? features : torch::stable::to(features, type);
  Tensor output =
      torch::stable::new_empty(computed, {boxes.size(0), features.size(1), pooled_height, pooled_width});
  Tensor argmax = torch::stable::new_empty(output, output.sizes(), ScalarType::Int);
  if (output.numel() > 0) {
    check(features.size(2) > 0 && features.size(3) > 0, "features: height and width must not be 0");
    const Tensor dense = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? pool<double>(computed, dense, settings, output, argmax)
                               : pool<float>(computed, dense, settings, output, argmax);
  }
  return {stored == type ? output : torch::stable::to(output, stored), argmax};
}

Tensor roi_align_max_backward(
    Tensor grad, Tensor argmax, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType stored = grad.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(grad, boxes, 1, 1, type);
  check_argmax(grad, argmax, boxes);
  const RoiAlignSettings settings{grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned};
  const Tensor dense = torch::stable::contiguous(stored == type ? grad : torch::stable::to(grad, type));
  Tensor result = torch::stable::new_empty(dense, {num_images, grad.size(1), height, width});
  if (result.numel() > 0) {
    const Tensor arguments = torch::stable::contiguous(argmax);
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? scatter<double>(dense, arguments, dense_boxes, settings, result)
                               : scatter<float>(dense, arguments, dense_boxes, settings, result);
  }
  return stored == type ? result : torch::stable::to(result, stored);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("roi_align_max", TORCH_BOX(&roi_align_max));
  m.impl("roi_align_max_backward", TORCH_BOX(&roi_align_max_backward));
}

}  // namespace maskray
