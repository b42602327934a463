// Checks that every kernel makes of its arguments, whoever calls it: no index leaves its tensor.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <sstream>
#include <stdexcept>
#include <vector>

namespace maskray {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// std::invalid_argument is a ValueError in Python. The message is put together only where it is needed.
template <class... Pieces>
void check(bool condition, Pieces... message) {
  if (!condition) {
    std::ostringstream text;
    (text << ... << message);
    throw std::invalid_argument(text.str());
  }
}

inline void check_roi_arguments(
    const Tensor& features, const Tensor& boxes, int64_t pooled_height, int64_t pooled_width, ScalarType box_type) {
  check(features.dim() == 4, "features: expected (N, C, H, W)");
  check(boxes.dim() == 2 && boxes.size(1) == 5, "boxes: expected (K, 5)");
  check(boxes.scalar_type() == box_type, "boxes: expected float32, or float64 when features are float64");
  check(pooled_height > 0 && pooled_width > 0, "output_size: expected two positive numbers");
  // Samples are counted in 32 bits, and positions are exact in float32.
  check(
      features.size(2) <= (1 << 24) && features.size(3) <= (1 << 24) &&
          features.size(2) * features.size(3) <= (1 << 30),
      "features: more than 2**30 cells in a map");
}

// A map without cells holds no samples; only without boxes or channels is there nothing to ask of it.
inline void check_not_empty(const Tensor& features, const Tensor& boxes) {
  const bool cells = features.size(2) > 0 && features.size(3) > 0;
  check(cells || boxes.size(0) == 0 || features.size(1) == 0, "features: height and width must not be 0");
}

// What the levels of a pyramid add: maps of one batch, channels and type, a scale each, a level for each box.
inline void check_levels(
    const std::vector<Tensor>& features, const Tensor& boxes, const Tensor& levels, const std::vector<double>& scales) {
  check(!features.empty(), "features: expected at least one level");
  check(scales.size() == features.size(), "spatial_scales: expected one for each level");
  check(levels.scalar_type() == ScalarType::Long && levels.dim() == 1, "levels: expected int64 (K,)");
  check(boxes.dim() == 2 && levels.size(0) == boxes.size(0), "levels: expected one for each box");
  for (const Tensor& level : features) {
    check(
        level.dim() == 4 && level.size(0) == features[0].size(0) && level.size(1) == features[0].size(1),
        "features: expected (N, C, Hl, Wl) with the same N and C in every level");
    check(level.scalar_type() == features[0].scalar_type(), "features: expected one dtype in every level");
  }
}

// The same for a gradient, which gets the sizes of the levels.
inline void check_level_sizes(
    const Tensor& boxes, const Tensor& levels, const std::vector<int64_t>& heights, const std::vector<int64_t>& widths,
    const std::vector<double>& scales) {
  check(!heights.empty() && heights.size() == widths.size(), "heights: expected one, and a width, for each level");
  check(scales.size() == heights.size(), "spatial_scales: expected one for each level");
  check(levels.scalar_type() == ScalarType::Long && levels.dim() == 1, "levels: expected int64 (K,)");
  check(boxes.dim() == 2 && levels.size(0) == boxes.size(0), "levels: expected one for each box");
}

// An empty gradient (N, C, H, W), in memory as (N, H, W, C) where asked for.
inline Tensor new_map(
    const Tensor& like, int64_t images, int64_t channels, int64_t height, int64_t width, ScalarType type,
    bool channels_last, bool zeroed = false) {
  const std::vector<int64_t> lying = channels_last ? std::vector<int64_t>{images, height, width, channels}
                                                   : std::vector<int64_t>{images, channels, height, width};
  const Tensor result =
      zeroed ? torch::stable::new_zeros(like, lying, type) : torch::stable::new_empty(like, lying, type);
  return channels_last ? torch::stable::transpose(torch::stable::transpose(result, 1, 3), 2, 3) : result;
}

// What a backward gets beside the boxes: gradient and argmax of one shape, one row per box.
inline void check_argmax(const Tensor& grad, const Tensor& argmax, const Tensor& boxes) {
  check(grad.size(0) == boxes.size(0), "grad: expected as many rows as boxes");
  check(argmax.scalar_type() == ScalarType::Int && argmax.dim() == 4, "argmax: expected int32 of four dimensions");
  for (int64_t d = 0; d < 4; ++d) {
    check(argmax.size(d) == grad.size(d), "argmax: expected the shape of grad");
  }
}

inline void check_nms_arguments(const Tensor& boxes, const Tensor& class_ids) {
  check(boxes.dim() == 2 && boxes.size(1) == 4, "boxes: expected (N, 4)");
  check(class_ids.dim() == 1 && class_ids.size(0) == boxes.size(0), "class_ids: expected (N,)");
  check(class_ids.scalar_type() == ScalarType::Long, "class_ids: expected int64");
  check(
      boxes.scalar_type() == ScalarType::Float || boxes.scalar_type() == ScalarType::Double,
      "boxes: expected float32 or float64");
}

// Float for half types: they are stored in 16 bits, and computed with in 32.
inline ScalarType compute_type(ScalarType type) {
  check(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
          type == ScalarType::BFloat16,
      "features: expected float32, float64, float16 or bfloat16");
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// The image index of each box is a whole number in 0..num_images-1 (boxes on the CPU).
template <class T>
void check_image_indices(const T* boxes, int64_t num_boxes, int64_t num_images) {
  for (int64_t k = 0; k < num_boxes; ++k) {
    const T image = boxes[5 * k];
    const bool named = image >= T(0) && image < static_cast<T>(num_images);
    check(named, "boxes: row ", k, " names image ", image, ", features hold ", num_images);
  }
}

}  // namespace maskray
