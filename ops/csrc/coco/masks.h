// Masks of many objects side by side: polygons and compressed run lengths, of which runs are made where they are
// needed.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../cpu/polygon_lines.h"
#include "../cpu/rle_text.h"
#include "../runs.h"
#include "exports.h"

namespace maskray {

// Mask i is the text starts[i] .. starts[i] + lengths[i], or where lengths[i] is -1 the polygons objects[i] ..
// objects[i + 1], of which polygon p has the coordinates polygons[p] .. polygons[p + 1], x and y by turns.
struct Masks {
  const uint8_t* text;
  int64_t text_bytes;
  const int64_t* starts;
  const int64_t* lengths;
  const double* coordinates;
  int64_t num_coordinates;
  const int64_t* polygons;
  int64_t num_polygons;
  const int64_t* objects;
};

// Where inside and outside of a polygon change, as pixels counted down the columns of a mask.
class Changes {
 public:
  void start(int64_t height, int64_t width) {
    height_ = height;
    width_ = width;
    changes_.clear();
  }
  int64_t first_column() const { return 0; }
  int64_t last_column() const { return width_ - 1; }
  void toggle(int64_t row, int64_t column) { changes_.push_back(column * height_ + std::min(row, height_)); }

  // The runs between them; what changes twice at one place does not change.
  void finish(Runs& runs) {
    std::sort(changes_.begin(), changes_.end());
    int64_t begin = -1;
    for (size_t i = 0; i < changes_.size(); ++i) {
      if (i + 1 < changes_.size() && changes_[i] == changes_[i + 1]) {
        ++i;
      } else if (begin < 0) {
        begin = changes_[i];
      } else {
        runs.add(begin, changes_[i]);
        begin = -1;
      }
    }
  }

 private:
  int64_t height_ = 0, width_ = 0;
  std::vector<int64_t> changes_;
};

// What is in either, of two lists of runs that are ascending and apart.
inline Runs unite(const Runs& first, const Runs& second) {
  Runs result;
  size_t i = 0, j = 0;
  Run open{0, 0};
  while (i < first.runs.size() || j < second.runs.size()) {
    const bool from_first =
        j == second.runs.size() || (i < first.runs.size() && first.runs[i].begin < second.runs[j].begin);
    const Run& next = from_first ? first.runs[i++] : second.runs[j++];
    if (next.begin > open.end) {
      result.add(open.begin, open.end);
      open = next;
    } else {
      open.end = std::max(open.end, next.end);
    }
  }
  result.add(open.begin, open.end);
  return result;
}

class MaskReader {
 public:
  MaskReader(const Masks& masks, const char* name) : masks_(masks), name_(name) {}

  // The runs of mask i, of height x width pixels.
  void read(int64_t i, int64_t height, int64_t width, Runs& runs) {
    runs.clear();
    if (masks_.lengths[i] >= 0) {
      read_text(i, height, width, [&](int64_t begin, int64_t end) { runs.add(begin, end); });
      return;
    }
    for (int64_t p = masks_.objects[i]; p < masks_.objects[i + 1]; ++p) {
      if (p == masks_.objects[i]) {
        fill(p, height, width, runs);
      } else {
        Runs other;
        fill(p, height, width, other);
        runs = unite(runs, other);
      }
    }
  }

  // Calls visit(begin, end) for each run of ones of mask i, which has text.
  template <class Visit>
  void read_text(int64_t i, int64_t height, int64_t width, const Visit& visit) const {
    const int64_t start = masks_.starts[i], length = masks_.lengths[i];
    demand(start >= 0 && length >= 0 && length <= masks_.text_bytes - start, name_, ": mask ", i, " leaves the text");
    const auto ones = [&](bool value, int64_t begin, int64_t end) {
      if (value && end > begin) {
        visit(begin, end);
      }
    };
    demand(
        read_rle(masks_.text + start, length, height * width, ones), name_, ": the counts of mask ", i,
        " are not those of ", height, " x ", width, " pixels");
  }

 private:
  void fill(int64_t p, int64_t height, int64_t width, Runs& runs) {
    demand(p >= 0 && p < masks_.num_polygons, name_, ": an object leaves the polygons");
    const int64_t start = masks_.polygons[p], end = masks_.polygons[p + 1];
    demand(
        start >= 0 && start <= end && end <= masks_.num_coordinates && (end - start) % 2 == 0, name_, ": polygon ", p,
        " has no pairs of coordinates");
    const double* xy = masks_.coordinates + start;
    demand(
        std::all_of(xy, xy + (end - start), [](double value) { return std::isfinite(value); }), name_, ": polygon ", p,
        " has a coordinate that is no number");
    changes_.start(height, width);
    if (end > start) {
      PolygonLines lines(changes_);
      lines.add(
          (end - start) / 2, [&](int64_t i) { return Point{grid_position(xy[2 * i]), grid_position(xy[2 * i + 1])}; });
    }
    changes_.finish(runs);
  }

  const Masks& masks_;
  const char* name_;
  Changes changes_;
};

}  // namespace maskray
