// The loops of match_kernels.h, compiled once per instruction set into namespace MASKRAY_LEVEL.
#include "match_kernels.h"

namespace maskray::MASKRAY_LEVEL {
namespace {

// 0 where the union is not above 0, as it is when a number of a box is NaN.
template <class T>
inline T overlap(const MatchBlock<T>& block, int i, const MatchBox<T>& box) {
  const T left = block.x0[i] < box.x0 ? box.x0 : block.x0[i];
  const T top = block.y0[i] < box.y0 ? box.y0 : block.y0[i];
  const T right = box.x1 < block.x1[i] ? box.x1 : block.x1[i];
  const T bottom = box.y1 < block.y1[i] ? box.y1 : block.y1[i];
  const T width = right - left;
  const T height = bottom - top;
  const T inner = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
  const T outer = block.area[i] + box.area - inner;
  const T iou = inner / outer;
  return outer > T(0) ? iou : T(0);
}

template <class T>
T update(MatchBlock<T>& block, const MatchBox<T>& box, IndexOf<T> index) {
  // Numbers from 0 up have the order of their bits as integers, whose maximum compilers vectorise.
  IndexOf<T> greatest = 0;
  for (int i = 0; i < kMatchBlock; ++i) {
    const T iou = overlap(block, i, box);
    const IndexOf<T> bits = __builtin_bit_cast(IndexOf<T>, iou);
    greatest = bits > greatest ? bits : greatest;
    const bool better = iou > block.best[i];
    block.best[i] = better ? iou : block.best[i];
    block.index[i] = better ? index : block.index[i];
  }
  return __builtin_bit_cast(T, greatest);
}

template <class T>
void mark(MatchBlock<T>& block, const MatchBox<T>& box, T iou) {
  for (int i = 0; i < kMatchBlock; ++i) {
    block.reaches[i] |= overlap(block, i, box) == iou;
  }
}

}  // namespace

MatchKernels<float> float_match_kernels() { return {update<float>, mark<float>}; }
MatchKernels<double> double_match_kernels() { return {update<double>, mark<double>}; }

}  // namespace maskray::MASKRAY_LEVEL
