// The loop of overlap_kernels.h, compiled once per instruction set into namespace MASKRAY_ISA.
#include "../box_iou.h"
#include "overlap_kernels.h"

namespace maskray::MASKRAY_ISA {
namespace {

template <class T>
void mark_overlapping(
    const T* __restrict x0, const T* __restrict y0, const T* __restrict x1, const T* __restrict y1,
    const T* __restrict area, int64_t i, int64_t count, T limit, int32_t* __restrict suppressed) {
  const Box<T> box{x0[i], y0[i], x1[i], y1[i], area[i]};
  for (int64_t j = i + 1; j < count; ++j) {
    suppressed[j] |= box_iou(box, Box<T>{x0[j], y0[j], x1[j], y1[j], area[j]}) > limit;
  }
}

}  // namespace

OverlapKernel<float> float_overlap() { return mark_overlapping<float>; }
OverlapKernel<double> double_overlap() { return mark_overlapping<double>; }

}  // namespace maskray::MASKRAY_ISA
