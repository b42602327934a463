// The IoU of two boxes: the one definition that suppression, soft suppression and matching share, on every device.
#pragma once

#include "host_device.h"

namespace maskray {

template <class T>
struct Box {
  T x0, y0, x1, y1, area;
};

// Of four numbers x0 y0 x1 y1. A side below 0 counts as 0; the area of a box with a NaN is NaN.
template <class T>
MASKRAY_HOST_DEVICE_INLINED Box<T> to_box(const T* corners) {
  const T width = corners[2] - corners[0], height = corners[3] - corners[1];
  const T area = (width < T(0) ? T(0) : width) * (height < T(0) ? T(0) : height);
  return {corners[0], corners[1], corners[2], corners[3], area};
}

template <class T>
MASKRAY_HOST_DEVICE_INLINED T box_intersection(const Box<T>& a, const Box<T>& b) {
  const T left = a.x0 < b.x0 ? b.x0 : a.x0;
  const T top = a.y0 < b.y0 ? b.y0 : a.y0;
  const T right = b.x1 < a.x1 ? b.x1 : a.x1;
  const T bottom = b.y1 < a.y1 ? b.y1 : a.y1;
  const T width = right - left;
  const T height = bottom - top;
  return (width > T(0) ? width : T(0)) * (height > T(0) ? height : T(0));
}

// 0 where the union is not above 0: two boxes without area, or a union that is NaN, as it is when a number of a box is
// NaN or the intersection is infinite.
template <class T>
MASKRAY_HOST_DEVICE_INLINED T box_iou(const Box<T>& a, const Box<T>& b) {
  const T inner = box_intersection(a, b);
  const T outer = a.area + b.area - inner;
  const T iou = inner / outer;
  return outer > T(0) ? iou : T(0);
}

}  // namespace maskray
