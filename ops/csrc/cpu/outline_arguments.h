// The tensors that hold outlines: polygons of objects, run lengths of objects, and where each lies in its image.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "../arguments.h"
#include "rle_text.h"

namespace maskray {

// Offsets of `count` groups begin at 0, do not descend and end at `total`.
inline void check_offsets(const Tensor& offsets, int64_t count, int64_t total, int64_t least, const std::string& name) {
  check(
      offsets.dim() == 1 && offsets.size(0) == count + 1 && offsets.scalar_type() == ScalarType::Long,
      name + ": expected int64 of one dimension, one more than groups");
  const int64_t* offset = static_cast<const int64_t*>(offsets.const_data_ptr());
  check(offset[0] == 0 && offset[count] == total, name + ": expected 0 first and the number of elements last");
  for (int64_t i = 0; i < count; ++i) {
    check(offset[i + 1] - offset[i] >= least, name + ": a group has fewer elements than it needs");
  }
}

// The polygons of `count` objects.
class __attribute__((visibility("hidden"))) Polygons {
 public:
  Polygons(const Tensor& coordinates, const Tensor& polygon_offsets, const Tensor& object_offsets, int64_t count)
      : points_(torch::stable::contiguous(coordinates)), polygons_(torch::stable::contiguous(polygon_offsets)),
        objects_(torch::stable::contiguous(object_offsets)) {
    check(
        points_.dim() == 2 && points_.size(1) == 2 && points_.scalar_type() == ScalarType::Double,
        "coordinates: expected float64 (P, 2)");
    check(polygons_.dim() == 1 && polygons_.size(0) > 0, "polygon_offsets: expected int64 (L + 1,)");
    check_offsets(polygons_, polygons_.size(0) - 1, points_.size(0), 3, "polygon_offsets");
    check_offsets(objects_, count, polygons_.size(0) - 1, 0, "object_offsets");
    const double* point = static_cast<const double*>(points_.const_data_ptr());
    check(
        std::all_of(point, point + 2 * points_.size(0), [](double value) { return std::isfinite(value); }),
        "coordinates: expected finite numbers");
  }

  // Calls visit(corners, how many) for each polygon of an object.
  template <class Visit>
  void visit(int64_t object, const Visit& visit) const {
    const double* point = static_cast<const double*>(points_.const_data_ptr());
    const int64_t* polygon = static_cast<const int64_t*>(polygons_.const_data_ptr());
    const int64_t* first = static_cast<const int64_t*>(objects_.const_data_ptr()) + object;
    for (int64_t i = first[0]; i < first[1]; ++i) {
      visit(point + 2 * polygon[i], polygon[i + 1] - polygon[i]);
    }
  }

 private:
  Tensor points_, polygons_, objects_;
};

// Where the mask of an object lies: it is drawn on a canvas, which is turned, of which a part is the image.
struct Placement {
  int64_t canvas_height, canvas_width, turn, top, left, image_height, image_width;
};
constexpr int64_t kPlacementSize = 7;
// Bits of Placement::turn; a pixel of the turned canvas is found on the canvas by these, in this order.
constexpr int64_t kMirrored = 1, kUpsideDown = 2, kTransposed = 4;
constexpr int64_t kMostCanvas = 1 << 20;  // pixels of a side
constexpr int64_t kMostPixels = 1 << 30;

// The masks of `count` objects, each of polygons, or of run lengths on its canvas.
class __attribute__((visibility("hidden"))) OutlineArguments {
 public:
  OutlineArguments(
      const Tensor& coordinates, const Tensor& polygon_offsets, const Tensor& object_offsets, const Tensor& text,
      const Tensor& text_offsets, const Tensor& placements)
      : count_(placements.dim() == 2 ? placements.size(0) : 0),
        polygons_(coordinates, polygon_offsets, object_offsets, count_), text_(torch::stable::contiguous(text)),
        text_offsets_(torch::stable::contiguous(text_offsets)), placements_(torch::stable::contiguous(placements)) {
    check(text.dim() == 1 && text.scalar_type() == ScalarType::Byte, "text: expected uint8 of one dimension");
    check_offsets(text_offsets_, count_, text_.size(0), 0, "text_offsets");
    check(
        placements.dim() == 2 && placements.size(1) == kPlacementSize && placements.scalar_type() == ScalarType::Long,
        "placements: expected int64 (G, 7)");
    for (int64_t i = 0; i < count_; ++i) {
      const Placement& at = placement(i);
      const auto side = [](int64_t pixels) { return pixels >= 0 && pixels <= kMostCanvas; };
      const auto offset = [](int64_t pixels) { return pixels >= -kMostCanvas && pixels <= kMostCanvas; };
      const bool known = at.turn >= 0 && at.turn < 2 * kTransposed;
      check(
          side(at.canvas_height) && side(at.canvas_width) && side(at.image_height) && side(at.image_width) &&
              offset(at.top) && offset(at.left) && known,
          "placements: row ", i, " is no place of an object");
    }
  }

  int64_t count() const { return count_; }
  const Placement& placement(int64_t i) const { return static_cast<const Placement*>(placements_.const_data_ptr())[i]; }
  const Polygons& polygons() const { return polygons_; }

  // Calls visit(first, last) for each run of ones of an object, down the columns of its canvas.
  template <class Visit>
  void visit_runs(int64_t i, const Visit& visit) const {
    const int64_t* offset = static_cast<const int64_t*>(text_offsets_.const_data_ptr()) + i;
    const uint8_t* text = static_cast<const uint8_t*>(text_.const_data_ptr()) + offset[0];
    if (offset[1] == offset[0]) {
      return;
    }
    const Placement& at = placement(i);
    const auto ones = [&](bool one, int64_t first, int64_t last) {
      if (one && last > first) {
        visit(first, last);
      }
    };
    check(
        read_rle(text, offset[1] - offset[0], at.canvas_height * at.canvas_width, ones), "text: the counts of object ",
        i, " are not those of ", at.canvas_height, " x ", at.canvas_width, " pixels");
  }

 private:
  int64_t count_;
  Polygons polygons_;
  Tensor text_, text_offsets_, placements_;
};

static_assert(sizeof(Placement) == kPlacementSize * sizeof(int64_t));

}  // namespace maskray
