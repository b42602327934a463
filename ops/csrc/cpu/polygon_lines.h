// Polygons as cells at which inside and outside change, by the rule of COCO's API: corners on a grid of a fifth of a
// cell, and of the lines between them only the points where they pass the middle of a column.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace maskray {

constexpr int64_t kFine = 5;           // points of the grid per cell
constexpr double kFarthest = 1 << 28;  // of the grid; what lies beyond is moved here

struct Point {
  int64_t x, y;
};

inline int64_t grid_position(double coordinate) {
  return static_cast<int64_t>(std::clamp(static_cast<double>(kFine) * coordinate + 0.5, -kFarthest, kFarthest));
}

// The cells of one polygon after the other in a window of a canvas whose first row is 0. The grid is told
// toggle(row, column) of columns first_column() .. last_column(); a row may lie below the window.
template <class Grid>
class PolygonLines {
 public:
  explicit PolygonLines(Grid& grid) : grid_(grid) {}

  // corner(i) gives the points of a closed polygon, on the grid.
  template <class Corner>
  void add(int64_t num_corners, const Corner& corner) {
    Point last = corner(num_corners - 1);
    for (int64_t i = 0; i < num_corners; ++i) {
      const Point next = corner(i);
      mark_line(last, next);
      last = next;
    }
  }

 private:
  // For a line that passes a column at height `y`.
  void toggle(int64_t column, int64_t y) { grid_.toggle(y < 0 ? 0 : (y + 2) / kFine, column); }

  // A line no steeper than the diagonal has one point per x; from left to right.
  void mark_flat(Point from, Point to, int64_t first, int64_t last) {
    const double slope = static_cast<double>(to.y - from.y) / static_cast<double>(to.x - from.x);
    for (int64_t column = first; column <= last; ++column) {
      const int64_t step = kFine * column + 2 - from.x;
      const auto y = [&](int64_t t) {
        // As pycocotools rounds. NOLINTNEXTLINE(bugprone-incorrect-roundings)
        return static_cast<int64_t>(static_cast<double>(from.y) + slope * static_cast<double>(t) + 0.5);
      };
      toggle(column, std::min(y(step), y(step + 1)));
    }
  }

  // A steeper line has one point per y; from top to bottom.
  void mark_steep(Point from, Point to, int64_t first, int64_t last) {
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
        toggle(column, from.y + t - 1);
      }
    }
  }

  void mark_line(Point from, Point to) {
    const int64_t low = std::min(from.x, to.x), high = std::max(from.x, to.x);
    const int64_t first = std::max(low <= 2 ? 0 : (low - 2 + kFine - 1) / kFine, grid_.first_column());
    const int64_t last = high < 3 ? -1 : std::min((high - 3) / kFine, grid_.last_column());
    if (first > last) {
      return;
    }
    const bool flat = high - low >= std::abs(to.y - from.y);
    if (flat ? from.x > to.x : from.y > to.y) {
      std::swap(from, to);
    }
    flat ? mark_flat(from, to, first, last) : mark_steep(from, to, first, last);
  }

  Grid& grid_;
};

}  // namespace maskray
