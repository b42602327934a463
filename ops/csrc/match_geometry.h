// The overlap of two boxes as matching computes it, alike on every device.
#pragma once

#include "roi_align_geometry.h"

namespace maskray {

template <class T>
struct MatchBox {
  T x0, y0, x1, y1, area;
};

// A side below 0 counts as 0; NaN stays.
template <class T>
MASKRAY_HOST_DEVICE MatchBox<T> to_match_box(const T* box) {
  const T width = box[2] - box[0], height = box[3] - box[1];
  return {box[0], box[1], box[2], box[3], (width < T(0) ? T(0) : width) * (height < T(0) ? T(0) : height)};
}

// 0 where the union is not above 0, as it is when a number of a box is NaN.
template <class T>
MASKRAY_HOST_DEVICE T match_iou(const MatchBox<T>& a, const MatchBox<T>& b) {
  const T left = a.x0 < b.x0 ? b.x0 : a.x0;
  const T top = a.y0 < b.y0 ? b.y0 : a.y0;
  const T right = b.x1 < a.x1 ? b.x1 : a.x1;
  const T bottom = b.y1 < a.y1 ? b.y1 : a.y1;
  const T width = right - left;
  const T height = bottom - top;
  const T inner = (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
  const T outer = a.area + b.area - inner;
  const T iou = inner / outer;
  return outer > T(0) ? iou : T(0);
}

}  // namespace maskray
