// RoIAlign with the mean of its samples, and its gradient, on CUDA: one thread per pooled value.
#include "launch.h"

#include "../roi_align_geometry.h"

namespace maskray {
namespace {

template <class T, class A>
__global__ void pool_kernel(
    const T* features, Layout layout, const A* boxes, RoiAlignSettings settings, int64_t num_images, int64_t channels,
    int64_t height, int64_t width, int64_t total, bool channels_fastest, T* output) {
  MASKRAY_GRID_LOOP(i, total) {
    const OutputIndex at(i, channels, settings.pooled_height, settings.pooled_width, channels_fastest);
    const A* box = boxes + 5 * at.box;
    if (!names_image(box[0], num_images)) {
      output[at.offset] = static_cast<T>(static_cast<A>(NAN));
      continue;
    }
    const RoiAxis<A> columns = roi_axis(box[1], box[3], settings.pooled_width, settings);
    const RoiAxis<A> rows = roi_axis(box[2], box[4], settings.pooled_height, settings);
    A first_row, first_column;
    int64_t num_rows, num_columns;
    sample_range(rows, at.row, height, first_row, num_rows);
    sample_range(columns, at.column, width, first_column, num_columns);
    const T* map = features + static_cast<int64_t>(box[0]) * layout.image + at.channel * layout.channel;
    A sum = A(0);
    for (int64_t r = 0; r < num_rows; ++r) {
      int64_t top, bottom;
      A top_weight, bottom_weight;
      const A y = sample_position(rows, at.row, first_row + static_cast<A>(r));
      if (!linear_weights(y, height, top, bottom, top_weight, bottom_weight)) {
        continue;
      }
      const T* top_row = map + top * layout.row;
      const T* bottom_row = map + bottom * layout.row;
      for (int64_t c = 0; c < num_columns; ++c) {
        int64_t left, right;
        A left_weight, right_weight;
        const A x = sample_position(columns, at.column, first_column + static_cast<A>(c));
        if (linear_weights(x, width, left, right, left_weight, right_weight)) {
          sum += top_weight * left_weight * static_cast<A>(top_row[left * layout.column]) +
              top_weight * right_weight * static_cast<A>(top_row[right * layout.column]) +
              bottom_weight * left_weight * static_cast<A>(bottom_row[left * layout.column]) +
              bottom_weight * right_weight * static_cast<A>(bottom_row[right * layout.column]);
        }
      }
    }
    output[at.offset] = static_cast<T>(sum / sample_count(rows, columns));
  }
}

template <class T, class A>
__global__ void scatter_kernel(
    const T* grad, const A* boxes, RoiAlignSettings settings, int64_t num_images, int64_t channels, int64_t height,
    int64_t width, int64_t total, A* result) {
  MASKRAY_GRID_LOOP(i, total) {
    const OutputIndex at(i, channels, settings.pooled_height, settings.pooled_width, false);
    const A* box = boxes + 5 * at.box;
    if (!names_image(box[0], num_images)) {
      continue;
    }
    const RoiAxis<A> columns = roi_axis(box[1], box[3], settings.pooled_width, settings);
    const RoiAxis<A> rows = roi_axis(box[2], box[4], settings.pooled_height, settings);
    A first_row, first_column;
    int64_t num_rows, num_columns;
    sample_range(rows, at.row, height, first_row, num_rows);
    sample_range(columns, at.column, width, first_column, num_columns);
    A* map = result + (static_cast<int64_t>(box[0]) * channels + at.channel) * height * width;
    const A value = static_cast<A>(grad[i]) / sample_count(rows, columns);
    for (int64_t r = 0; r < num_rows; ++r) {
      int64_t top, bottom;
      A top_weight, bottom_weight;
      const A y = sample_position(rows, at.row, first_row + static_cast<A>(r));
      if (!linear_weights(y, height, top, bottom, top_weight, bottom_weight)) {
        continue;
      }
      for (int64_t c = 0; c < num_columns; ++c) {
        int64_t left, right;
        A left_weight, right_weight;
        const A x = sample_position(columns, at.column, first_column + static_cast<A>(c));
        if (linear_weights(x, width, left, right, left_weight, right_weight)) {
          atomicAdd(map + top * width + left, top_weight * left_weight * value);
          atomicAdd(map + top * width + right, top_weight * right_weight * value);
          atomicAdd(map + bottom * width + left, bottom_weight * left_weight * value);
          atomicAdd(map + bottom * width + right, bottom_weight * right_weight * value);
        }
      }
    }
  }
}

Tensor roi_align(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType type = features.scalar_type();
  check_roi_arguments(features, boxes, pooled_height, pooled_width, compute_type(type));
  check_same_device(features, boxes, "boxes");
  const torch::stable::accelerator::DeviceGuard guard(features.get_device_index());
  const RoiAlignSettings settings{pooled_height, pooled_width, spatial_scale, sampling_ratio, aligned};
  const int64_t channels = features.size(1), height = features.size(2), width = features.size(3);
  Tensor output = torch::stable::new_empty(features, {boxes.size(0), channels, pooled_height, pooled_width});
  if (output.numel() == 0) {
    return output;
  }
  check(height > 0 && width > 0, "features: height and width must not be 0");
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  dispatch_floating(type, [&](auto* stored, auto* computed) {
    using T = std::remove_pointer_t<decltype(stored)>;
    using A = std::remove_pointer_t<decltype(computed)>;
    const Layout layout(features);
    pool_kernel<T, A><<<num_blocks(output.numel()), kThreads, 0, current_stream(features)>>>(
        static_cast<const T*>(features.const_data_ptr()), layout, static_cast<const A*>(dense_boxes.const_data_ptr()),
        settings, features.size(0), channels, height, width, output.numel(), layout.channel == 1 && channels > 1,
        static_cast<T*>(output.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

Tensor roi_align_backward(
    Tensor grad, Tensor boxes, int64_t num_images, int64_t height, int64_t width, double spatial_scale,
    int64_t sampling_ratio, bool aligned) {
  const ScalarType type = grad.scalar_type();
  check_roi_arguments(grad, boxes, 1, 1, compute_type(type));
  check(grad.size(0) == boxes.size(0), "grad: expected as many rows as boxes");
  check_same_device(grad, boxes, "boxes");
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const RoiAlignSettings settings{grad.size(2), grad.size(3), spatial_scale, sampling_ratio, aligned};
  const int64_t channels = grad.size(1);
  const Tensor dense = torch::stable::contiguous(grad);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  Tensor result = torch::stable::new_zeros(dense, {num_images, channels, height, width}, compute_type(type));
  if (result.numel() > 0 && dense.numel() > 0) {
    dispatch_floating(type, [&](auto* stored, auto* computed) {
      using T = std::remove_pointer_t<decltype(stored)>;
      using A = std::remove_pointer_t<decltype(computed)>;
      scatter_kernel<T, A><<<num_blocks(dense.numel()), kThreads, 0, current_stream(grad)>>>(
          static_cast<const T*>(dense.const_data_ptr()), static_cast<const A*>(dense_boxes.const_data_ptr()), settings,
          num_images, channels, height, width, dense.numel(), static_cast<A*>(result.mutable_data_ptr()));
    });
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return compute_type(type) == type ? result : torch::stable::to(result, type);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) {
  m.impl("roi_align", TORCH_BOX(&roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&roi_align_backward));
}

}  // namespace maskray
