// Gives the channel kernels the cells of one RoI with their channels side by side, whatever the layout of the features.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <vector>

#include "../arguments.h"
#include "channel_kernels.h"
#include "huge_pages.h"
#include "isa.h"
#include "roi_taps.h"

namespace maskray {

template <class T>
const ChannelKernels<T>& channel_kernels();
template <>
inline const ChannelKernels<float>& channel_kernels<float>() {
  return MASKRAY_CHOOSE_ISA(float_kernels);
}
template <>
inline const ChannelKernels<double>& channel_kernels<double>() {
  return MASKRAY_CHOOSE_ISA(double_kernels);
}

// Whether the values of (N, C, H, W) lie as (N, H, W, C).
inline bool lies_channels_last(const Tensor& tensor) {
  const int64_t channels = tensor.size(1), row = tensor.size(3) * channels;
  return tensor.stride(1) == 1 && tensor.stride(3) == channels && tensor.stride(2) == row &&
      (tensor.size(0) == 1 || tensor.stride(0) == tensor.size(2) * row);
}

// Tensor is hidden outside its library, and so is what holds one.
#define MASKRAY_INTERNAL __attribute__((visibility("hidden")))

// A level as (N, C, H, W) in memory, or as (N, H, W, C). `busy` says that so many cells are read that turning the maps
// around once costs less than turning the patch of each RoI.
template <class T>
class MASKRAY_INTERNAL RoiSource {
 public:
  RoiSource(
      const Tensor& features, const T* boxes, const std::vector<int64_t>& rois, double spatial_scale,
      const RoiAlignSettings& settings)
      : images_(features.size(0)), channels_(features.size(1)), height_(features.size(2)), width_(features.size(3)) {
    if (rois.empty() || channels_ == 0) {
      return;
    }
    channels_last_ = lies_channels_last(features);
    kept_ = channels_last_ ? features : torch::stable::contiguous(features);
    busy_ = !channels_last_ && cells_read(boxes, rois, spatial_scale, settings) > images_ * height_ * width_;
    data_ = static_cast<const T*>(kept_.const_data_ptr());
  }

  bool busy() const { return busy_; }

  // Channels first .. first + count - 1 of one image as (H, W, count).
  void turn_channels(int64_t image, int64_t first, int64_t count, T* block) const {
    const int64_t cells = height_ * width_;
    const T* from = data_ + (image * channels_ + first) * cells;
    for (int64_t cell = 0; cell < cells; cell += kStrip) {
      channel_kernels<T>().transpose(
          from + cell, cells, count, std::min(kStrip, cells - cell), block + cell * count, count);
    }
  }

  // Keeps all of a busy level as (N, H, W, C).
  void turn_around() {
    if (!busy_) {
      return;
    }
    const Tensor source = kept_;
    kept_ = torch::stable::new_empty(source, {images_, height_, width_, channels_});
    const T* from = static_cast<const T*>(source.const_data_ptr());
    T* to = static_cast<T*>(kept_.mutable_data_ptr());
    advise_huge_pages(to, kept_.numel() * sizeof(T));
    const int64_t cells = height_ * width_;
    const int64_t strips = (cells + kStrip - 1) / kStrip;
    torch::stable::parallel_for(0, images_ * strips, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / strips;
        const int64_t first = i % strips * kStrip;
        const int64_t offset = image * channels_ * cells;
        channel_kernels<T>().transpose(
            from + offset + first, cells, channels_, std::min(kStrip, cells - first), to + offset + first * channels_,
            channels_);
      }
    });
    data_ = to;
    channels_last_ = true;
    busy_ = false;
  }

  // Where the taps of an RoI of image `image` of a level that is not busy point into; renumbers them where a patch is
  // copied.
  const T* locate(
      int64_t image, AxisTaps<T>& rows, AxisTaps<T>& columns, std::vector<int32_t>& used_rows, std::vector<T>& patch,
      int64_t& row_stride) const {
    if (channels_last_) {
      row_stride = width_ * channels_;
      return data_ + image * height_ * row_stride;
    }
    rows.compact(used_rows);
    const int32_t first_column = columns.lowest();
    const int64_t num_columns = columns.highest() - first_column + 1;
    columns.shift(-first_column);
    row_stride = num_columns * channels_;
    patch.resize(used_rows.size() * row_stride);
    const int64_t cells = height_ * width_;
    const T* corner = data_ + image * channels_ * cells + first_column;
    for (size_t r = 0; r < used_rows.size(); ++r) {
      channel_kernels<T>().transpose(
          corner + used_rows[r] * width_, cells, channels_, num_columns, patch.data() + r * row_stride, channels_);
    }
    return patch.data();
  }

  int64_t channels() const { return channels_; }
  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

 private:
  int64_t cells_read(
      const T* boxes, const std::vector<int64_t>& rois, double spatial_scale, const RoiAlignSettings& settings) const {
    const auto along = [&](const RoiAxis<T>& axis, int64_t pooled, int64_t extent) {
      const T size = axis.bin * static_cast<T>(pooled) + T(2);
      return axis.grid == T(0) ? T(0) : std::min(size, static_cast<T>(extent));
    };
    T cells = T(0);
    for (const int64_t k : rois) {
      const RoiAxes<T> axes = roi_axes(boxes + 5 * k, spatial_scale, settings);
      cells += along(axes.columns, settings.pooled_width, width_) * along(axes.rows, settings.pooled_height, height_);
    }
    return static_cast<int64_t>(cells);
  }

  static constexpr int64_t kStrip = 256;

  int64_t images_, channels_, height_, width_;
  bool channels_last_ = false, busy_ = false;
  Tensor kept_;
  const T* data_ = nullptr;
};

}  // namespace maskray
