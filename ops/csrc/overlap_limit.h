// The IoU threshold in the type that overlaps are computed in.
#pragma once

#include <cmath>
#include <limits>

namespace maskray {

// The greatest T not above the threshold: `iou > limit` then says what comparing in double would.
template <class T>
T overlap_limit(double threshold) {
  const T limit = static_cast<T>(threshold);
  return static_cast<double>(limit) > threshold ? std::nextafter(limit, -std::numeric_limits<T>::infinity()) : limit;
}

}  // namespace maskray
