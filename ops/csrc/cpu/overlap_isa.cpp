// The loop of overlap_kernels.h, compiled once per instruction set into namespace MASKRAY_ISA.
#include "overlap_kernels.h"

namespace maskray::MASKRAY_ISA {
namespace {

template <class T>
void mark_overlapping(
    const T* __restrict x0, const T* __restrict y0, const T* __restrict x1, const T* __restrict y1,
    const T* __restrict area, int64_t i, int64_t count, T limit, int32_t* __restrict suppressed) {
  const T left = x0[i], top = y0[i], right = x1[i], bottom = y1[i], own_area = area[i];
  for (int64_t j = i + 1; j < count; ++j) {
    const T inner_left = left < x0[j] ? x0[j] : left;
    const T inner_top = top < y0[j] ? y0[j] : top;
    const T inner_right = x1[j] < right ? x1[j] : right;
    const T inner_bottom = y1[j] < bottom ? y1[j] : bottom;
    const T width = inner_right - inner_left;
    const T height = inner_bottom - inner_top;
    const T inner = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
    suppressed[j] |= inner / (own_area + area[j] - inner) > limit;
  }
}

}  // namespace

OverlapKernel<float> float_overlap() { return mark_overlapping<float>; }
OverlapKernel<double> double_overlap() { return mark_overlapping<double>; }

}  // namespace maskray::MASKRAY_ISA
