// Checks of the arguments of match_boxes, and its labels, alike on every device.
#pragma once

#include <limits>

#include "arguments.h"

namespace maskray {

constexpr int8_t kPositive = 1, kNegative = 0, kIgnored = -1;

// references (R, 4) or (N, R, 4); gt_boxes (N, M, 4); gt_valid (N, M).
inline void check_match_arguments(const Tensor& references, const Tensor& gt_boxes, const Tensor& gt_valid) {
  const int64_t dim = references.dim();
  check((dim == 2 || dim == 3) && references.size(dim - 1) == 4, "references: expected (R, 4) or (N, R, 4)");
  check(gt_boxes.dim() == 3 && gt_boxes.size(2) == 4, "gt_boxes: expected (N, M, 4)");
  check(dim == 2 || references.size(0) == gt_boxes.size(0), "references: expected as many images as gt_boxes");
  check(
      gt_valid.dim() == 2 && gt_valid.size(0) == gt_boxes.size(0) && gt_valid.size(1) == gt_boxes.size(1),
      "gt_valid: expected (N, M)");
  check(gt_valid.scalar_type() == ScalarType::Bool, "gt_valid: expected bool");
  check(
      references.scalar_type() == ScalarType::Float || references.scalar_type() == ScalarType::Double,
      "references: expected float32 or float64");
  check(gt_boxes.scalar_type() == references.scalar_type(), "gt_boxes: expected the dtype of references");
  check(gt_boxes.size(1) <= std::numeric_limits<int32_t>::max(), "gt_boxes: more than 2**31 - 1 in an image");
}

}  // namespace maskray
