// The boundary of a mask: its pixels within a distance of its outline (Cheng et al. 2021, "Boundary IoU").
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../runs.h"
#include "exports.h"

namespace maskray {

constexpr int64_t kMostBoundaryPixels = int64_t{1} << 28;  // of the image of a mask that is drawn

// Pixels of distance for an image: a share of its diagonal, rounded to even at halves, at least 1.
inline int64_t boundary_distance(int64_t height, int64_t width, double ratio) {
  const double diagonal = std::sqrt(static_cast<double>(height * height + width * width));
  return std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(ratio * diagonal)));
}

class Boundary {
 public:
  // Pixels of the mask that have one outside it, or outside the image, in the square of 2 * distance + 1 around them.
  Runs of(const Runs& mask, int64_t height, int64_t width, int64_t distance) {
    demand(height * width <= kMostBoundaryPixels, "boundary: images of more than 2**28 pixels are not drawn");
    Runs result;
    if (mask.runs.empty()) {
      return result;
    }
    inner_.assign(height * width, 0);
    for (const Run& run : mask.runs) {
      std::fill(inner_.begin() + run.begin, inner_.begin() + run.end, 1);
    }
    // Down the columns, then along the rows: what is left are pixels whose whole square is inside.
    for (int64_t x = 0; x < width; ++x) {
      erode(x * height, 1, height, distance);
    }
    for (int64_t y = 0; y < height; ++y) {
      erode(y, height, width, distance);
    }
    for (const Run& run : mask.runs) {
      for (int64_t begin = run.begin; begin < run.end;) {
        const bool is_inner = inner_[begin] != 0;
        int64_t end = begin + 1;
        while (end < run.end && (inner_[end] != 0) == is_inner) {
          ++end;
        }
        if (!is_inner) {
          result.add(begin, end);
        }
        begin = end;
      }
    }
    return result;
  }

 private:
  // Of `count` pixels, `step` apart, leaves the ones that have `distance` ones on either side.
  void erode(int64_t first, int64_t step, int64_t count, int64_t distance) {
    int64_t begin = 0;  // of the ones that go on
    for (int64_t i = 0; i <= count; ++i) {
      if (i < count && inner_[first + i * step] != 0) {
        continue;
      }
      for (int64_t k = begin; k < std::min(begin + distance, i); ++k) {
        inner_[first + k * step] = 0;
      }
      for (int64_t k = std::max(begin, i - distance); k < i; ++k) {
        inner_[first + k * step] = 0;
      }
      begin = i + 1;
    }
  }

  std::vector<uint8_t> inner_;
};

}  // namespace maskray
