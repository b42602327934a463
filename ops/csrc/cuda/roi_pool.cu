// RoIPool (Fast R-CNN, section 2.1) and its gradient on CUDA: one thread per pooled value.
#include "launch.h"

#include "../roi_pool_geometry.h"

namespace maskray {
namespace {

template <class T, class A>
__global__ void pool_kernel(
    const T* features, Layout layout, const A* boxes, double spatial_scale, int64_t num_images, int64_t channels,
    int64_t height, int64_t width, int64_t pooled_height, int64_t pooled_width, int64_t total, bool channels_fastest,
    T* output, int32_t* argmax) {
  MASKRAY_GRID_LOOP(i, total) {
    const OutputIndex at(i, channels, pooled_height, pooled_width, channels_fastest);
    const A* box = boxes + 5 * at.box;
    A best = A(0);
    int64_t best_cell = -1;
    if (names_image(box[0], num_images)) {
      int64_t left, right, top, bottom;
      pool_cells(pool_axis(box[1], box[3], spatial_scale), pooled_width, at.column, width, left, right);
      pool_cells(pool_axis(box[2], box[4], spatial_scale), pooled_height, at.row, height, top, bottom);
      const T* map = features + static_cast<int64_t>(box[0]) * layout.image + at.channel * layout.channel;
      for (int64_t y = top; y < bottom; ++y) {
        for (int64_t x = left; x < right; ++x) {
          const A value = static_cast<A>(map[y * layout.row + x * layout.column]);
          if (best_cell < 0 || value > best || value != value) {
            best = value;
            best_cell = y * width + x;
          }
        }
      }
    } else {
      best = static_cast<A>(NAN);
    }
    output[at.offset] = static_cast<T>(best);
    argmax[at.offset] = static_cast<int32_t>(best_cell);
  }
}

template <class T, class A>
__global__ void scatter_kernel(
    const T* grad, const int32_t* argmax, const A* boxes, int64_t num_images, int64_t channels, int64_t bins,
    int64_t cells, int64_t total, A* result) {
  MASKRAY_GRID_LOOP(i, total) {
    const int64_t channel = i / bins % channels;
    const A image = boxes[5 * (i / bins / channels)];
    if (argmax[i] >= 0 && argmax[i] < cells && names_image(image, num_images)) {
      atomicAdd(
          result + (static_cast<int64_t>(image) * channels + channel) * cells + argmax[i], static_cast<A>(grad[i]));
    }
  }
}

std::tuple<Tensor, Tensor> roi_pool(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale) {
  const ScalarType type = features.scalar_type();
  check_roi_arguments(features, boxes, pooled_height, pooled_width, compute_type(type));
  check_same_device(features, boxes, "boxes");
  const torch::stable::accelerator::DeviceGuard guard(features.get_device_index());
  const int64_t channels = features.size(1), height = features.size(2), width = features.size(3);
  Tensor output = torch::stable::new_empty(features, {boxes.size(0), channels, pooled_height, pooled_width});
  Tensor argmax = torch::stable::new_empty(output, output.sizes(), ScalarType::Int);
  if (output.numel() == 0) {
    return {output, argmax};
  }
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  dispatch_floating(type, [&](auto* stored, auto* computed) {
    using T = std::remove_pointer_t<decltype(stored)>;
    using A = std::remove_pointer_t<decltype(computed)>;
    const Layout layout(features);
    pool_kernel<T, A><<<num_blocks(output.numel()), kThreads, 0, current_stream(features)>>>(
        static_cast<const T*>(features.const_data_ptr()), layout, static_cast<const A*>(dense_boxes.const_data_ptr()),
        spatial_scale, features.size(0), channels, height, width, pooled_height, pooled_width, output.numel(),
        layout.channel == 1 && channels > 1, static_cast<T*>(output.mutable_data_ptr()),
        static_cast<int32_t*>(argmax.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {output, argmax};
}

Tensor roi_pool_backward(Tensor grad, Tensor argmax, Tensor boxes, int64_t num_images, int64_t height, int64_t width) {
  const ScalarType type = grad.scalar_type();
  check_roi_arguments(grad, boxes, 1, 1, compute_type(type));
  check_argmax(grad, argmax, boxes);
  check_same_device(grad, boxes, "boxes");
  check_same_device(grad, argmax, "argmax");
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Tensor dense = torch::stable::contiguous(grad);
  const Tensor dense_argmax = torch::stable::contiguous(argmax);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  Tensor result = torch::stable::new_zeros(dense, {num_images, grad.size(1), height, width}, compute_type(type));
  if (result.numel() > 0 && dense.numel() > 0) {
    dispatch_floating(type, [&](auto* stored, auto* computed) {
      using T = std::remove_pointer_t<decltype(stored)>;
      using A = std::remove_pointer_t<decltype(computed)>;
      scatter_kernel<T, A><<<num_blocks(dense.numel()), kThreads, 0, current_stream(grad)>>>(
          static_cast<const T*>(dense.const_data_ptr()), static_cast<const int32_t*>(dense_argmax.const_data_ptr()),
          static_cast<const A*>(dense_boxes.const_data_ptr()), num_images, grad.size(1), grad.size(2) * grad.size(3),
          height * width, dense.numel(), static_cast<A*>(result.mutable_data_ptr()));
    });
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return compute_type(type) == type ? result : torch::stable::to(result, type);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) {
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_backward", TORCH_BOX(&roi_pool_backward));
}

}  // namespace maskray
