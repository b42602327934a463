// RoIPool (Fast R-CNN, section 2.1) and its gradient on the CPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "../arguments.h"
#include "../roi_pool_geometry.h"

namespace maskray {
namespace {

// Cells first[i] <= j < last[i] of each bin of one axis.
struct AxisCells {
  std::vector<int64_t> first, last;

  template <class T>
  void build(T low, T high, double spatial_scale, int64_t pooled, int64_t extent) {
    const PoolAxis<T> axis = pool_axis(low, high, spatial_scale);
    first.resize(pooled);
    last.resize(pooled);
    for (int64_t p = 0; p < pooled; ++p) {
      pool_cells(axis, pooled, p, extent, first[p], last[p]);
    }
  }
};

template <class T>
void pool_channel(
    const T* map, int64_t width, const AxisCells& rows, const AxisCells& columns, T* out, int32_t* argmax) {
  for (size_t p = 0; p < rows.first.size(); ++p) {
    for (size_t q = 0; q < columns.first.size(); ++q, ++out, ++argmax) {
      T best = T(0);
      int64_t best_cell = -1;
      for (int64_t y = rows.first[p]; y < rows.last[p]; ++y) {
        for (int64_t x = columns.first[q]; x < columns.last[q]; ++x) {
          const T value = map[y * width + x];
          if (best_cell < 0 || value > best || value != value) {
            best = value;
            best_cell = y * width + x;
          }
        }
      }
      *out = best;
      *argmax = static_cast<int32_t>(best_cell);
    }
  }
}

template <class T>
void pool(const Tensor& features, const Tensor& boxes, double spatial_scale, Tensor& output, Tensor& argmax) {
  const int64_t channels = features.size(1), height = features.size(2), width = features.size(3);
  const int64_t pooled_height = output.size(2), pooled_width = output.size(3), bins = pooled_height * pooled_width;
  const T* map = static_cast<const T*>(features.const_data_ptr());
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, boxes.size(0), features.size(0));
  T* out = static_cast<T*>(output.mutable_data_ptr());
  int32_t* arguments = static_cast<int32_t*>(argmax.mutable_data_ptr());
  torch::stable::parallel_for(0, boxes.size(0), 1, [&](int64_t begin, int64_t end) {
    AxisCells rows, columns;
    for (int64_t k = begin; k < end; ++k) {
      const T* box = box_data + 5 * k;
      columns.build(box[1], box[3], spatial_scale, pooled_width, width);
      rows.build(box[2], box[4], spatial_scale, pooled_height, height);
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t offset = (k * channels + c) * bins;
        const T* channel = map + (static_cast<int64_t>(box[0]) * channels + c) * height * width;
        pool_channel(channel, width, rows, columns, out + offset, arguments + offset);
      }
    }
  });
}

template <class T>
void scatter(const Tensor& grad, const Tensor& argmax, const Tensor& boxes, Tensor& result) {
  const int64_t images = result.size(0), channels = result.size(1), cells = result.size(2) * result.size(3);
  const int64_t bins = grad.size(2) * grad.size(3);
  const T* grad_data = static_cast<const T*>(grad.const_data_ptr());
  const int32_t* arguments = static_cast<const int32_t*>(argmax.const_data_ptr());
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  check_image_indices(box_data, boxes.size(0), images);
  T* out = static_cast<T*>(result.mutable_data_ptr());
  // A thread owns its channels: the sums are made in the order of the boxes, however many threads there are.
  torch::stable::parallel_for(0, channels, 8, [&](int64_t begin, int64_t end) {
    for (int64_t image = 0; image < images; ++image) {
      std::fill_n(out + (image * channels + begin) * cells, (end - begin) * cells, T(0));
    }
    for (int64_t k = 0; k < boxes.size(0); ++k) {
      const int64_t image = static_cast<int64_t>(box_data[5 * k]);
      for (int64_t c = begin; c < end; ++c) {
        const int64_t offset = (k * channels + c) * bins;
        T* map = out + (image * channels + c) * cells;
        for (int64_t b = 0; b < bins; ++b) {
          const int32_t cell = arguments[offset + b];
          if (cell >= 0 && cell < cells) {
            map[cell] += grad_data[offset + b];
          }
        }
      }
    }
  });
}

std::tuple<Tensor, Tensor> roi_pool(
    Tensor features, Tensor boxes, int64_t pooled_height, int64_t pooled_width, double spatial_scale) {
  const ScalarType stored = features.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(features, boxes, pooled_height, pooled_width, type);
  const Tensor dense = torch::stable::contiguous(stored == type ? features : torch::stable::to(features, type));
  Tensor output = torch::stable::new_empty(dense, {boxes.size(0), features.size(1), pooled_height, pooled_width});
  Tensor argmax = torch::stable::new_empty(output, output.sizes(), ScalarType::Int);
  if (output.numel() > 0) {
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? pool<double>(dense, dense_boxes, spatial_scale, output, argmax)
                               : pool<float>(dense, dense_boxes, spatial_scale, output, argmax);
  }
  return {stored == type ? output : torch::stable::to(output, stored), argmax};
}

Tensor roi_pool_backward(Tensor grad, Tensor argmax, Tensor boxes, int64_t num_images, int64_t height, int64_t width) {
  const ScalarType stored = grad.scalar_type();
  const ScalarType type = compute_type(stored);
  check_roi_arguments(grad, boxes, 1, 1, type);
  check_argmax(grad, argmax, boxes);
  const Tensor dense = torch::stable::contiguous(stored == type ? grad : torch::stable::to(grad, type));
  Tensor result = torch::stable::new_empty(dense, {num_images, grad.size(1), height, width});
  if (result.numel() > 0) {
    const Tensor arguments = torch::stable::contiguous(argmax);
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    type == ScalarType::Double ? scatter<double>(dense, arguments, dense_boxes, result)
                               : scatter<float>(dense, arguments, dense_boxes, result);
  }
  return stored == type ? result : torch::stable::to(result, stored);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("roi_pool", TORCH_BOX(&roi_pool));
  m.impl("roi_pool_backward", TORCH_BOX(&roi_pool_backward));
}

}  // namespace maskray
