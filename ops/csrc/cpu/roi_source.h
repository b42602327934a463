// Gives the channel kernels the cells of one RoI with their channels side by side, whatever the layout of the features.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <vector>

#include "../arguments.h"
#include "channel_kernels.h"
#include "level.h"
#include "roi_taps.h"

namespace maskray {

template <class T>
const ChannelKernels<T>& channel_kernels();
template <>
inline const ChannelKernels<float>& channel_kernels<float>() {
  return MASKRAY_CHOOSE_LEVEL(float_kernels);
}
template <>
inline const ChannelKernels<double>& channel_kernels<double>() {
  return MASKRAY_CHOOSE_LEVEL(double_kernels);
}

// The map as (N, C, H, W) in memory, or as (N, H, W, C): it already is, or so many cells are read that turning it
// around once costs less than turning the patch of each RoI.
template <class T>
class RoiSource {
 public:
  RoiSource(const Tensor& features, const T* boxes, int64_t num_boxes, const RoiAlignSettings& settings)
      : images_(features.size(0)), channels_(features.size(1)), height_(features.size(2)), width_(features.size(3)) {
    const int64_t row = width_ * channels_;
    channels_last_ = features.stride(1) == 1 && features.stride(3) == channels_ && features.stride(2) == row &&
        (images_ == 1 || features.stride(0) == height_ * row);
    kept_ = channels_last_ ? features : torch::stable::contiguous(features);
    if (!channels_last_ && cells_read(boxes, num_boxes, settings) > images_ * height_ * width_) {
      turn_around();
    }
    data_ = static_cast<const T*>(kept_.const_data_ptr());
  }

  // Where the taps of an RoI of image `image` point into; renumbers them where a patch is copied.
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
  int64_t cells_read(const T* boxes, int64_t num_boxes, const RoiAlignSettings& settings) const {
    const auto along = [&](const RoiAxis<T>& axis, int64_t pooled, int64_t extent) {
      const T size = axis.bin * static_cast<T>(pooled) + T(2);
      return axis.grid == T(0) ? T(0) : std::min(size, static_cast<T>(extent));
    };
    T cells = T(0);
    for (int64_t k = 0; k < num_boxes; ++k) {
      const T* box = boxes + 5 * k;
      const auto columns = roi_axis(box[1], box[3], settings.pooled_width, settings);
      const auto rows = roi_axis(box[2], box[4], settings.pooled_height, settings);
      cells += along(columns, settings.pooled_width, width_) * along(rows, settings.pooled_height, height_);
    }
    return static_cast<int64_t>(cells);
  }

  void turn_around() {
    const Tensor source = kept_;
    kept_ = torch::stable::new_empty(source, {images_, height_, width_, channels_});
    const T* from = static_cast<const T*>(source.const_data_ptr());
    T* to = static_cast<T*>(kept_.mutable_data_ptr());
    const int64_t cells = height_ * width_;
    constexpr int64_t strip = 256;
    const int64_t strips = (cells + strip - 1) / strip;
    torch::stable::parallel_for(0, images_ * strips, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / strips;
        const int64_t first = i % strips * strip;
        const int64_t offset = image * channels_ * cells;
        channel_kernels<T>().transpose(
            from + offset + first, cells, channels_, std::min(strip, cells - first),
            to + offset + first * channels_, channels_);
      }
    });
    channels_last_ = true;
  }

  int64_t images_, channels_, height_, width_;
  bool channels_last_ = false;
  Tensor kept_;
  const T* data_ = nullptr;
};

}  // namespace maskray
