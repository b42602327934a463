// Fills polygons cropped to boxes by the rule of COCO's API: corners on a grid of a fifth of a cell, and of the lines
// between them only the points where they pass the middle of a column; between these, cells change down the columns.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "../arguments.h"

namespace maskray {
namespace {

constexpr int64_t kFine = 5;           // points of the grid per cell
constexpr double kFarthest = 1 << 28;  // of the grid; what lies beyond is moved here

struct Point {
  int64_t x, y;
};

int64_t grid_position(double coordinate) {
  return static_cast<int64_t>(std::clamp(static_cast<double>(kFine) * coordinate + 0.5, -kFarthest, kFarthest));
}

// Marks the cell of a column at which inside and outside change, for a line that passes it at height `y`.
void toggle(int64_t column, int64_t y, int64_t size, uint8_t* changes) {
  const int64_t row = y < 0 ? 0 : std::min((y + 2) / kFine, size);
  changes[column * size + row] ^= 1;
}

// A line no steeper than the diagonal has one point per x; from left to right.
void mark_flat(Point from, Point to, int64_t first, int64_t last, int64_t size, uint8_t* changes) {
  const double slope = static_cast<double>(to.y - from.y) / static_cast<double>(to.x - from.x);
  for (int64_t column = first; column <= last; ++column) {
    const int64_t step = kFine * column + 2 - from.x;
    const auto y = [&](int64_t t) {
      // As pycocotools rounds. NOLINTNEXTLINE(bugprone-incorrect-roundings)
      return static_cast<int64_t>(static_cast<double>(from.y) + slope * static_cast<double>(t) + 0.5);
    };
    toggle(column, std::min(y(step), y(step + 1)), size, changes);
  }
}

// A steeper line has one point per y; from top to bottom.
void mark_steep(Point from, Point to, int64_t first, int64_t last, int64_t size, uint8_t* changes) {
  const int64_t steps = to.y - from.y;
  const double slope = static_cast<double>(to.x - from.x) / static_cast<double>(steps);
  for (int64_t column = first; column <= last; ++column) {
    const int64_t left = kFine * column + 2;  // the line passes between this x and the next
    const auto passed = [&](int64_t t) {
      const double x = static_cast<double>(from.x) + slope * static_cast<double>(t) + 0.5;
      return slope > 0 ? static_cast<int64_t>(x) > left : static_cast<int64_t>(x) <= left;
    };
    // The estimate is off by rounding alone.
    const double estimate = (static_cast<double>(left) + 0.5 - static_cast<double>(from.x)) / slope;
    int64_t t = static_cast<int64_t>(std::clamp(estimate, 0.0, static_cast<double>(steps)));
    while (t > 0 && passed(t - 1)) {
      --t;
    }
    while (t <= steps && !passed(t)) {
      ++t;
    }
    if (t > 0 && t <= steps) {
      toggle(column, from.y + t - 1, size, changes);
    }
  }
}

void mark_line(Point from, Point to, int64_t size, uint8_t* changes) {
  const int64_t low = std::min(from.x, to.x), high = std::max(from.x, to.x);
  const int64_t first = low <= 2 ? 0 : (low - 2 + kFine - 1) / kFine;
  const int64_t last = high < 3 ? -1 : std::min((high - 3) / kFine, size - 1);
  if (first > last) {
    return;
  }
  const bool flat = high - low >= std::abs(to.y - from.y);
  if (flat ? from.x > to.x : from.y > to.y) {
    std::swap(from, to);
  }
  flat ? mark_flat(from, to, first, last, size, changes) : mark_steep(from, to, first, last, size, changes);
}

// One axis of a box, in double: cells per pixel as detectron2 takes them.
struct Crop {
  double low, scale;

  Crop(double low, double high, int64_t size)
      : low(low), scale(static_cast<double>(size) / std::max(high - low, 0.1)) {}
  int64_t operator()(double coordinate) const { return grid_position((coordinate - low) * scale); }
};

// Adds the cells inside one polygon to a mask; `changes` has size * size + 1 bytes of 0, and is left so.
void fill_polygon(
    const double* corners, int64_t num_corners, const Crop& across, const Crop& down, int64_t size, uint8_t* changes,
    bool* mask) {
  const auto corner = [&](int64_t i) { return Point{across(corners[2 * i]), down(corners[2 * i + 1])}; };
  Point last = corner(num_corners - 1);
  for (int64_t i = 0; i < num_corners; ++i) {
    const Point next = corner(i);
    mark_line(last, next, size, changes);
    last = next;
  }
  uint8_t inside = 0;
  for (int64_t column = 0; column < size; ++column) {
    for (int64_t row = 0; row < size; ++row) {
      inside ^= changes[column * size + row];
      mask[row * size + column] |= inside != 0;
    }
  }
  std::fill(changes, changes + size * size + 1, uint8_t(0));
}

// Offsets of `count` groups begin at 0, do not descend and end at `total`.
void check_offsets(const Tensor& offsets, int64_t count, int64_t total, int64_t least, const std::string& name) {
  check(
      offsets.dim() == 1 && offsets.size(0) == count + 1 && offsets.scalar_type() == ScalarType::Long,
      name + ": expected int64 of one dimension, one more than groups");
  const int64_t* offset = static_cast<const int64_t*>(offsets.const_data_ptr());
  check(offset[0] == 0 && offset[count] == total, name + ": expected 0 first and the number of elements last");
  for (int64_t i = 0; i < count; ++i) {
    check(offset[i + 1] - offset[i] >= least, name + ": a group has fewer elements than it needs");
  }
}

Tensor rasterize_polygons(
    Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor boxes, int64_t size) {
  check(
      coordinates.dim() == 2 && coordinates.size(1) == 2 && coordinates.scalar_type() == ScalarType::Double,
      "coordinates: expected float64 (P, 2)");
  check(
      boxes.dim() == 2 && boxes.size(1) == 4 && boxes.scalar_type() == ScalarType::Double,
      "boxes: expected float64 (D, 4)");
  check(size > 0 && size <= 1 << 15, "mask_size: expected 1..32768");
  const Tensor points = torch::stable::contiguous(coordinates), corners = torch::stable::contiguous(boxes);
  const Tensor polygons = torch::stable::contiguous(polygon_offsets);
  const Tensor objects = torch::stable::contiguous(object_offsets);
  check(polygons.dim() == 1 && polygons.size(0) > 0, "polygon_offsets: expected int64 (L + 1,)");
  check_offsets(polygons, polygons.size(0) - 1, points.size(0), 3, "polygon_offsets");
  check_offsets(objects, boxes.size(0), polygons.size(0) - 1, 0, "object_offsets");
  const double* point = static_cast<const double*>(points.const_data_ptr());
  check(
      std::all_of(point, point + 2 * points.size(0), [](double value) { return std::isfinite(value); }),
      "coordinates: expected finite numbers");
  Tensor result = torch::stable::new_zeros(points, {boxes.size(0), size, size}, ScalarType::Bool);
  bool* masks = static_cast<bool*>(result.mutable_data_ptr());
  const double* box_data = static_cast<const double*>(corners.const_data_ptr());
  const int64_t* polygon = static_cast<const int64_t*>(polygons.const_data_ptr());
  const int64_t* object = static_cast<const int64_t*>(objects.const_data_ptr());
  torch::stable::parallel_for(0, boxes.size(0), 8, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> changes(size * size + 1);
    for (int64_t d = begin; d < end; ++d) {
      const double* box = box_data + 4 * d;
      if (!std::all_of(box, box + 4, [](double value) { return std::isfinite(value) && std::abs(value) < 1e100; })) {
        continue;
      }
      const Crop across(box[0], box[2], size), down(box[1], box[3], size);
      for (int64_t i = object[d]; i < object[d + 1]; ++i) {
        fill_polygon(
            point + 2 * polygon[i], polygon[i + 1] - polygon[i], across, down, size, changes.data(),
            masks + d * size * size);
      }
    }
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("rasterize_polygons", TORCH_BOX(&rasterize_polygons)); }

}  // namespace maskray
