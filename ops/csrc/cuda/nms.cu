// Greedy non-maximum suppression on CUDA: a block for each group of boxes, which walks through them in order.
#include "launch.h"

#include <limits>

#include "../box_iou.h"
#include "../overlap_limit.h"

namespace maskray {
namespace {

constexpr int kGroupThreads = 512;

// Ids ascend, so a group is a run of equal ids; its block is that of its first box, and all others have nothing to do.
// In order, every box that is still there strikes out those after it that it overlaps by more than the limit.
template <class T>
__global__ void keep_kernel(const T* boxes, const int64_t* class_ids, int64_t count, T limit, bool* keep) {
  const int64_t first = blockIdx.x;
  if (first > 0 && class_ids[first - 1] == class_ids[first]) {
    return;
  }
  int64_t end = first + 1;
  for (int64_t beyond = count; end < beyond;) {  // the first place of a greater id
    const int64_t middle = end + (beyond - end) / 2;
    if (class_ids[middle] == class_ids[first]) {
      end = middle + 1;
    } else {
      beyond = middle;
    }
  }
  for (int64_t i = first; i + 1 < end; ++i) {
    __syncthreads();  // nothing before i strikes out i any more
    if (!keep[i]) {
      continue;
    }
    const Box<T> box = to_box(boxes + 4 * i);
    for (int64_t j = i + 1 + threadIdx.x; j < end; j += blockDim.x) {
      if (box_iou(box, to_box(boxes + 4 * j)) > limit) {
        keep[j] = false;
      }
    }
  }
}

template <class T>
void suppress(const Tensor& boxes, const Tensor& class_ids, double iou_threshold, Tensor& keep) {
  const int64_t count = boxes.size(0);
  keep_kernel<T><<<static_cast<unsigned int>(count), kGroupThreads, 0, current_stream(boxes)>>>(
      static_cast<const T*>(boxes.const_data_ptr()), static_cast<const int64_t*>(class_ids.const_data_ptr()), count,
      overlap_limit<T>(iou_threshold), static_cast<bool*>(keep.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor nms_keep(Tensor boxes, Tensor class_ids, double iou_threshold) {
  check_nms_arguments(boxes, class_ids);
  check_same_device(boxes, class_ids, "class_ids");
  check(boxes.size(0) <= std::numeric_limits<int32_t>::max(), "boxes: more than 2 147 483 647");
  const torch::stable::accelerator::DeviceGuard guard(boxes.get_device_index());
  Tensor keep = torch::stable::new_empty(boxes, {boxes.size(0)}, ScalarType::Bool);
  if (boxes.size(0) > 0) {
    torch::stable::fill_(keep, 1.0);
    const Tensor dense = torch::stable::contiguous(boxes);
    const Tensor classes = torch::stable::contiguous(class_ids);
    boxes.scalar_type() == ScalarType::Double ? suppress<double>(dense, classes, iou_threshold, keep)
                                              : suppress<float>(dense, classes, iou_threshold, keep);
  }
  return keep;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CUDA, m) { m.impl("nms_keep", TORCH_BOX(&nms_keep)); }

}  // namespace maskray
