// Checks that every kernel makes of its arguments, whoever calls it: no index leaves its tensor.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <sstream>
#include <stdexcept>
#include <string>

namespace maskray {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// std::invalid_argument is a ValueError in Python.
inline void check(bool condition, const std::string& message) {
  if (!condition) {
    throw std::invalid_argument(message);
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
    if (!(image >= T(0) && image < static_cast<T>(num_images))) {
      std::ostringstream message;
      message << "boxes: row " << k << " names image " << image << ", features hold " << num_images;
      throw std::invalid_argument(message.str());
    }
  }
}

}  // namespace maskray
