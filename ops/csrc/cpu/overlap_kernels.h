// The inner loop of non-maximum suppression, one per instruction set.
#pragma once

#include <cstdint>

namespace maskray {

// Sets suppressed[j], i < j < count, where the IoU (box_iou.h) of boxes i and j is above the limit.
template <class T>
using OverlapKernel = void (*)(
    const T* x0, const T* y0, const T* x1, const T* y1, const T* area, int64_t i, int64_t count, T limit,
    int32_t* suppressed);

#define MASKRAY_DECLARE_OVERLAP_KERNELS(isa) \
  namespace isa {                            \
  OverlapKernel<float> float_overlap();      \
  OverlapKernel<double> double_overlap();    \
  }
MASKRAY_DECLARE_OVERLAP_KERNELS(baseline)
#if defined(__x86_64__)
MASKRAY_DECLARE_OVERLAP_KERNELS(avx2)
MASKRAY_DECLARE_OVERLAP_KERNELS(avx512)
#endif
#undef MASKRAY_DECLARE_OVERLAP_KERNELS

}  // namespace maskray
