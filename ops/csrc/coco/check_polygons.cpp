// Which polygons are plain ones of an object, so that nobody needs to look at them closer.
#include "masks.h"

namespace maskray {
namespace {

constexpr int64_t kMostPolygons = 100;  // of an object, that are compared with one another

bool is_plain(const Masks& masks, int64_t i, double height, double width, bool box_is_fraction) {
  const double side = std::max(height, width), far = 10 * side;
  double extent = 0;
  bool fractions = true;
  const int64_t first = masks.objects[i], last = masks.objects[i + 1];
  if (last - first > kMostPolygons) {
    return false;
  }
  for (int64_t p = first; p < last; ++p) {
    const double* begin = masks.coordinates + masks.polygons[p];
    const double* end = masks.coordinates + masks.polygons[p + 1];
    const auto [low, high] = std::minmax_element(begin, end);
    if (*low < -far || *high > far) {
      return false;
    }
    fractions &= *low >= 0 && *high <= 1;
    extent += (*high - *low) * static_cast<double>(end - begin);
    for (int64_t other = first; other < p; ++other) {
      const double* twin = masks.coordinates + masks.polygons[other];
      if (masks.coordinates + masks.polygons[other + 1] - twin == end - begin && std::equal(begin, end, twin)) {
        return false;
      }
    }
  }
  return extent <= std::min(4 * height * width + 1000 * (height + width), 4e6) &&
      (!fractions || box_is_fraction || std::min(height, width) < 8);
}

}  // namespace

// The first of `count` objects, of images of sizes (N, 2) height and width, whose polygons platform/data/formats would
// read otherwise than they stand, or might leave out; -1 where there is none. Rules as in segmentation.py there.
MASKRAY_EXPORT int64_t
maskray_odd_polygons(const Masks* masks, int64_t count, const int64_t* sizes, const uint8_t* box_is_fraction) {
  for (int64_t i = 0; i < count; ++i) {
    const double height = static_cast<double>(sizes[2 * i]), width = static_cast<double>(sizes[2 * i + 1]);
    if (masks->lengths[i] == -1 && !is_plain(*masks, i, height, width, box_is_fraction[i] != 0)) {
      return i;
    }
  }
  return -1;
}

}  // namespace maskray
