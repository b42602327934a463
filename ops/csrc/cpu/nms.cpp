// Greedy non-maximum suppression on the CPU: classes in parallel, the overlaps of one box with the rest vectorised.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "../arguments.h"
#include "../box_iou.h"
#include "../overlap_limit.h"
#include "isa.h"
#include "overlap_kernels.h"

namespace maskray {
namespace {

template <class T>
OverlapKernel<T> overlap_kernel();
template <>
OverlapKernel<float> overlap_kernel<float>() {
  return MASKRAY_CHOOSE_ISA(float_overlap);
}
template <>
OverlapKernel<double> overlap_kernel<double>() {
  return MASKRAY_CHOOSE_ISA(double_overlap);
}

// Decide on the boxes `members` (indices in descending order of score) of one class.
template <class T>
void suppress_class(const T* boxes, const int64_t* members, int64_t count, T limit, bool* keep) {
  std::vector<T> columns(5 * count);
  std::vector<int32_t> suppressed(count, 0);
  T* part[5];
  for (int i = 0; i < 5; ++i) {
    part[i] = columns.data() + i * count;
  }
  for (int64_t i = 0; i < count; ++i) {
    const Box<T> box = to_box(boxes + 4 * members[i]);
    const T values[5] = {box.x0, box.y0, box.x1, box.y1, box.area};
    for (int side = 0; side < 5; ++side) {
      part[side][i] = values[side];
    }
  }
  const OverlapKernel<T> mark_overlapping = overlap_kernel<T>();
  for (int64_t i = 0; i < count; ++i) {
    keep[members[i]] = suppressed[i] == 0;
    if (suppressed[i] == 0) {
      mark_overlapping(part[0], part[1], part[2], part[3], part[4], i, count, limit, suppressed.data());
    }
  }
}

template <class T>
void suppress(const Tensor& boxes, const Tensor& class_ids, double iou_threshold, Tensor& keep) {
  const int64_t count = boxes.size(0);
  const T* box_data = static_cast<const T*>(boxes.const_data_ptr());
  const int64_t* classes = static_cast<const int64_t*>(class_ids.const_data_ptr());
  bool* kept = static_cast<bool*>(keep.mutable_data_ptr());
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return classes[a] < classes[b]; });
  std::vector<int64_t> begins;
  for (int64_t i = 0; i < count; ++i) {
    if (i == 0 || classes[order[i]] != classes[order[i - 1]]) {
      begins.push_back(i);
    }
  }
  begins.push_back(count);
  const T limit = overlap_limit<T>(iou_threshold);
  torch::stable::parallel_for(0, static_cast<int64_t>(begins.size()) - 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      suppress_class(box_data, order.data() + begins[group], begins[group + 1] - begins[group], limit, kept);
    }
  });
}

Tensor nms_keep(Tensor boxes, Tensor class_ids, double iou_threshold) {
  check_nms_arguments(boxes, class_ids);
  Tensor keep = torch::stable::new_empty(boxes, {boxes.size(0)}, ScalarType::Bool);
  if (boxes.size(0) > 0) {
    const Tensor dense = torch::stable::contiguous(boxes);
    const Tensor classes = torch::stable::contiguous(class_ids);
    boxes.scalar_type() == ScalarType::Double ? suppress<double>(dense, classes, iou_threshold, keep)
                                              : suppress<float>(dense, classes, iou_threshold, keep);
  }
  return keep;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("nms_keep", TORCH_BOX(&nms_keep)); }

}  // namespace maskray
