// Windows of masks that are drawn from outlines: no mask of a whole image is made.
#pragma once

#include <vector>

#include "change_grid.h"
#include "outline_arguments.h"
#include "polygon_lines.h"

namespace maskray {

class __attribute__((visibility("hidden"))) OutlineDrawer {
 public:
  explicit OutlineDrawer(const OutlineArguments& outlines) : outlines_(outlines) {}

  // The mask of an object in a window of its image, row after row, 0 or 1; 0 beside the image.
  void draw(int64_t object, const Window& window, std::vector<uint8_t>& mask) {
    mask.assign(window.cells(), 0);
    const Placement& at = outlines_.placement(object);
    Window part = window.within(at.image_height, at.image_width);
    if (part.empty()) {
      return;
    }
    const bool transposed = (at.turn & kTransposed) != 0;
    const int64_t height = transposed ? at.canvas_width : at.canvas_height;
    const int64_t width = transposed ? at.canvas_height : at.canvas_width;
    part = Window{part.top + at.top, part.left + at.left, part.rows, part.columns}.within(height, width);
    if (part.empty()) {
      return;
    }
    const int64_t first = (part.top - at.top - window.top) * window.columns + part.left - at.left - window.left;
    if (at.turn == 0 && part.rows == window.rows && part.columns == window.columns) {
      draw_canvas(object, part, mask.data());
      return;
    }
    Window source = part;
    if ((at.turn & kUpsideDown) != 0) {
      source.top = height - part.top - part.rows;
    }
    if ((at.turn & kMirrored) != 0) {
      source.left = width - part.left - part.columns;
    }
    if (transposed) {
      source = {source.left, source.top, source.columns, source.rows};
    }
    canvas_.assign(source.cells(), 0);
    draw_canvas(object, source, canvas_.data());
    copy_turned(at.turn, part, source.columns, mask.data() + first, window.columns);
  }

 private:
  void draw_canvas(int64_t object, const Window& window, uint8_t* mask) {
    grid_.start(window);
    PolygonLines lines(grid_);
    outlines_.polygons().visit(object, [&](const double* corner, int64_t count) {
      lines.add(
          count, [&](int64_t i) { return Point{grid_position(corner[2 * i]), grid_position(corner[2 * i + 1])}; });
      grid_.fill(mask);
    });
    const int64_t height = outlines_.placement(object).canvas_height;
    outlines_.visit_runs(object, [&](int64_t first, int64_t last) { grid_.add_run(first, last, height); });
    grid_.fill(mask);
  }

  // canvas_ to rows of a mask that lie `stride` apart; `part` is of the turned canvas.
  void copy_turned(int64_t turn, const Window& part, int64_t canvas_columns, uint8_t* mask, int64_t stride) const {
    const bool transposed = (turn & kTransposed) != 0;
    int64_t down = transposed ? 1 : canvas_columns, across = transposed ? canvas_columns : 1;
    const uint8_t* from = canvas_.data();
    if ((turn & kUpsideDown) != 0) {
      from += (part.rows - 1) * down;
      down = -down;
    }
    if ((turn & kMirrored) != 0) {
      from += (part.columns - 1) * across;
      across = -across;
    }
    for (int64_t row = 0; row < part.rows; ++row) {
      for (int64_t column = 0; column < part.columns; ++column) {
        mask[row * stride + column] = from[row * down + column * across];
      }
    }
  }

  const OutlineArguments& outlines_;
  ChangeGrid grid_;
  std::vector<uint8_t> canvas_;
};

}  // namespace maskray
