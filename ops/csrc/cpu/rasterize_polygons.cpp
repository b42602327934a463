// Fills polygons cropped to boxes by the rule of COCO's API: between the cells that lines mark, cells change down the
// columns.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>

#include "../arguments.h"
#include "change_grid.h"
#include "outline_arguments.h"
#include "polygon_lines.h"

namespace maskray {
namespace {

// One axis of a box, in double: cells per pixel as detectron2 takes them.
struct Crop {
  double low, scale;

  Crop(double low, double high, int64_t size)
      : low(low), scale(static_cast<double>(size) / std::max(high - low, 0.1)) {}
  int64_t operator()(double coordinate) const { return grid_position((coordinate - low) * scale); }
};

Tensor rasterize_polygons(
    Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor boxes, int64_t size) {
  check(
      boxes.dim() == 2 && boxes.size(1) == 4 && boxes.scalar_type() == ScalarType::Double,
      "boxes: expected float64 (D, 4)");
  check(size > 0 && size <= 1 << 15, "mask_size: expected 1..32768");
  const Polygons polygons(coordinates, polygon_offsets, object_offsets, boxes.size(0));
  const Tensor corners = torch::stable::contiguous(boxes);
  Tensor result = torch::stable::new_zeros(corners, {boxes.size(0), size, size}, ScalarType::Bool);
  uint8_t* masks = static_cast<uint8_t*>(result.mutable_data_ptr());
  const double* box_data = static_cast<const double*>(corners.const_data_ptr());
  torch::stable::parallel_for(0, boxes.size(0), 8, [&](int64_t begin, int64_t end) {
    ChangeGrid grid;
    grid.start({0, 0, size, size});
    PolygonLines lines(grid);
    for (int64_t d = begin; d < end; ++d) {
      const double* box = box_data + 4 * d;
      if (!std::all_of(box, box + 4, [](double value) { return std::isfinite(value) && std::abs(value) < 1e100; })) {
        continue;
      }
      const Crop across(box[0], box[2], size), down(box[1], box[3], size);
      polygons.visit(d, [&](const double* corner, int64_t count) {
        lines.add(count, [&](int64_t i) { return Point{across(corner[2 * i]), down(corner[2 * i + 1])}; });
        grid.fill(masks + d * size * size);
      });
    }
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("rasterize_polygons", TORCH_BOX(&rasterize_polygons)); }

}  // namespace maskray
