// The inner loops of matching: one ground-truth box with a block of reference boxes, one set per instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../box_iou.h"

namespace maskray {

constexpr int kMatchBlock = 256;

// The integer as wide as T: vectors of both then have equally many lanes.
template <class T>
using IndexOf = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// Reference boxes by columns. Places after the last box hold NaN, which overlaps nothing.
template <class T>
struct MatchBlock {
  alignas(64) T x0[kMatchBlock];
  alignas(64) T y0[kMatchBlock];
  alignas(64) T x1[kMatchBlock];
  alignas(64) T y1[kMatchBlock];
  alignas(64) T area[kMatchBlock];
  alignas(64) T best[kMatchBlock];              // greatest IoU so far
  alignas(64) IndexOf<T> index[kMatchBlock];    // of the ground-truth box that has it
  alignas(64) IndexOf<T> reaches[kMatchBlock];  // not 0: the reference has the greatest IoU of some ground-truth box
};

template <class T>
struct MatchKernels {
  // Takes the box where its IoU is above `best`; returns its greatest IoU with the block.
  T (*update)(MatchBlock<T>& block, const Box<T>& box, IndexOf<T> index);
  // Sets `reaches` where the IoU with the box equals `iou`.
  void (*mark)(MatchBlock<T>& block, const Box<T>& box, T iou);
};

#define MASKRAY_DECLARE_MATCH_KERNELS(isa)     \
  namespace isa {                              \
  MatchKernels<float> float_match_kernels();   \
  MatchKernels<double> double_match_kernels(); \
  }
MASKRAY_DECLARE_MATCH_KERNELS(baseline)
#if defined(__x86_64__)
MASKRAY_DECLARE_MATCH_KERNELS(avx2)
MASKRAY_DECLARE_MATCH_KERNELS(avx512)
#endif
#undef MASKRAY_DECLARE_MATCH_KERNELS

}  // namespace maskray
