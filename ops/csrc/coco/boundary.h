// The boundary of a mask: its pixels within a distance of its outline (Cheng et al. 2021, "Boundary IoU").
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../runs.h"
#include "exports.h"

namespace maskray {

constexpr int64_t kMostBoundaryPixels = int64_t{1} << 28;  // of the box of a mask, which is drawn

// Pixels of distance for an image: a share of its diagonal, rounded to even at halves, at least 1.
inline int64_t boundary_distance(int64_t height, int64_t width, double ratio) {
  const double diagonal = std::sqrt(static_cast<double>(height * height + width * width));
  return std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(ratio * diagonal)));
}

class Boundary {
 public:
  // Pixels of the mask that have one outside it, or outside the image, in the square of 2 * distance + 1 around them.
  Runs of(const Runs& mask, int64_t height, int64_t distance) {
    Runs result;
    if (mask.runs.empty()) {
      return result;
    }
    // What lies beyond its columns and rows is outside, be it of the image or not.
    ExtentBuilder builder(height);
    for (const Run& run : mask.runs) {
      builder.add(run.begin, run.end);
    }
    const Extent& extent = builder.extent();
    const int64_t rows = extent.bottom - extent.top + 1, columns = extent.right - extent.left + 1;
    demand(rows * columns <= kMostBoundaryPixels, "boundary: masks of more than 2**28 pixels are not drawn");
    inner_.assign(rows * columns, 0);
    for_each_piece(mask, height, extent, [&](int64_t first, int64_t last, int64_t) {
      std::fill(inner_.begin() + first, inner_.begin() + last, 1);
    });
    // Down the columns, then along the rows: what is left are pixels whose whole square is inside.
    for (int64_t x = 0; x < columns; ++x) {
      erode(x * rows, 1, rows, distance);
    }
    for (int64_t y = 0; y < rows; ++y) {
      erode(y, rows, columns, distance);
    }
    for_each_piece(mask, height, extent, [&](int64_t first, int64_t last, int64_t pixel) {
      for (int64_t begin = first; begin < last;) {
        const int64_t end = std::find(inner_.begin() + begin, inner_.begin() + last, 1) - inner_.begin();
        result.add(pixel + begin - first, pixel + end - first);
        begin = std::find(inner_.begin() + end, inner_.begin() + last, 0) - inner_.begin();
      }
    });
    return result;
  }

 private:
  // Calls visit(first, last, pixel) for the pieces of runs in each column: places in the window, and their first pixel.
  template <class Visit>
  static void for_each_piece(const Runs& mask, int64_t height, const Extent& extent, const Visit& visit) {
    const int64_t rows = extent.bottom - extent.top + 1;
    for (const Run& run : mask.runs) {
      for (int64_t begin = run.begin; begin < run.end;) {
        const int64_t column = begin / height, end = std::min(run.end, (column + 1) * height);
        const int64_t first = (column - extent.left) * rows + begin - column * height - extent.top;
        visit(first, first + end - begin, begin);
        begin = end;
      }
    }
  }

  // Of `count` pixels, `step` apart, leaves the ones that have `distance` ones on either side.
  void erode(int64_t start, int64_t step, int64_t count, int64_t distance) {
    int64_t begin = 0;  // of the ones that go on
    for (int64_t i = 0; i <= count; ++i) {
      if (i < count && inner_[start + i * step] != 0) {
        continue;
      }
      for (int64_t k = begin; k < std::min(begin + distance, i); ++k) {
        inner_[start + k * step] = 0;
      }
      for (int64_t k = std::max(begin, i - distance); k < i; ++k) {
        inner_[start + k * step] = 0;
      }
      begin = i + 1;
    }
  }

  std::vector<uint8_t> inner_;
};

}  // namespace maskray
