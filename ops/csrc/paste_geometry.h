// How the small mask of a detection lies on the pixels of its image: every rounding that pasting shares with its RLE.
#pragma once

#include <cmath>
#include <cstdint>

#include "arguments.h"
#include "host_device.h"

namespace maskray {

// One axis of a box; cell i of the mask has its centre at position i, pixel centres are at +0.5.
template <class T>
struct PasteAxis {
  T low, extent;
  int64_t num_cells;

  MASKRAY_HOST_DEVICE PasteAxis(T low, T high, int64_t num_cells)
      : low(low), extent(high - low), num_cells(num_cells) {}

  // False for a box without extent, with NaN or with infinity: it has no pixels. Without it no position is NaN.
  MASKRAY_HOST_DEVICE bool is_usable() const { return num_cells > 0 && extent > T(0) && extent - extent == T(0); }

  // Every step rounds monotonically: positions never decrease from one pixel to the next.
  MASKRAY_HOST_DEVICE T position(int64_t pixel) const {
    return (static_cast<T>(pixel) + T(0.5) - low) / extent * static_cast<T>(num_cells) - T(0.5);
  }

  // The first of `num_pixels` pixels whose position is not below `bound`, or num_pixels.
  MASKRAY_HOST_DEVICE int64_t first_pixel(T bound, int64_t num_pixels) const {
    int64_t first = 0;
    for (int64_t count = num_pixels; count > 0;) {
      const int64_t half = count / 2;
      if (position(first + half) < bound) {
        first += half + 1;
        count -= half + 1;
      } else {
        count = half;
      }
    }
    return first;
  }
};

// Between the values of two neighbouring cells. Monotone in the fraction, after rounding too: among the pixels between
// two cells, those at or above a threshold are all, none, the first or the last ones.
template <class T>
MASKRAY_HOST_DEVICE T blend(T before, T after, T fraction) {
  return before + fraction * (after - before);
}

inline void check_paste_arguments(
    const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold) {
  check(masks.dim() == 3, "masks: expected (D, m, m)");
  check(
      masks.scalar_type() == ScalarType::Float || masks.scalar_type() == ScalarType::Double,
      "masks: expected float32 or float64");
  check(boxes.dim() == 2 && boxes.size(0) == masks.size(0) && boxes.size(1) == 4, "boxes: expected (D, 4)");
  check(boxes.scalar_type() == masks.scalar_type(), "boxes: expected the dtype of masks");
  // COCO counts pixels in 32 bits.
  check(
      height > 0 && width > 0 && height <= UINT32_MAX / width,
      "image_size: expected a positive height and width, and less than 2**32 pixels");
  check(threshold > 0, "threshold: expected a positive number");
}

}  // namespace maskray
