// The loops of match_kernels.h, compiled once per instruction set into namespace MASKRAY_ISA.
#include "match_kernels.h"

namespace maskray::MASKRAY_ISA {
namespace {

template <class T>
inline T overlap(const MatchBlock<T>& block, int i, const Box<T>& box) {
  return box_iou(Box<T>{block.x0[i], block.y0[i], block.x1[i], block.y1[i], block.area[i]}, box);
}

template <class T>
T update(MatchBlock<T>& block, const Box<T>& box, IndexOf<T> index) {
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
void mark(MatchBlock<T>& block, const Box<T>& box, T iou) {
  for (int i = 0; i < kMatchBlock; ++i) {
    block.reaches[i] |= overlap(block, i, box) == iou;
  }
}

}  // namespace

MatchKernels<float> float_match_kernels() { return {update<float>, mark<float>}; }
MatchKernels<double> double_match_kernels() { return {update<double>, mark<double>}; }

}  // namespace maskray::MASKRAY_ISA
