// Masks as their runs of ones, counted down the columns: what they cover, where, and what two of them share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace maskray {

struct Run {
  int64_t begin, end;
};

// The columns and rows of a mask, both ends included; last < first where it covers nothing.
struct Extent {
  int64_t left = 0, top = 0, right = -1, bottom = -1;
};

// The runs of ones of a mask, ascending and apart or touching.
struct Runs {
  std::vector<Run> runs;
  int64_t area = 0;

  void clear() {
    runs.clear();
    area = 0;
  }
  void add(int64_t begin, int64_t end) {
    if (end > begin) {
      runs.push_back({begin, end});
      area += end - begin;
    }
  }
};

// Grows an extent run by run, ascending, of masks of `height` rows; no division but for a wide gap.
class ExtentBuilder {
 public:
  explicit ExtentBuilder(int64_t height) : height_(height) {}

  void add(int64_t begin, int64_t end) {
    move_to(begin);
    if (extent_.right < extent_.left) {
      extent_ = {column_, height_, column_, -1};
    }
    if (end <= start_ + height_) {
      extent_.top = std::min(extent_.top, begin - start_);
      extent_.bottom = std::max(extent_.bottom, end - 1 - start_);
    } else {  // goes on in the next column
      extent_.top = 0;
      extent_.bottom = height_ - 1;
      move_to(end - 1);
    }
    extent_.right = column_;
  }

  const Extent& extent() const { return extent_; }

 private:
  void move_to(int64_t pixel) {
    if (pixel >= start_ + 4 * height_) {
      column_ = pixel / height_;
      start_ = column_ * height_;
    }
    while (pixel >= start_ + height_) {
      ++column_;
      start_ += height_;
    }
  }

  int64_t height_, column_ = 0, start_ = 0;
  Extent extent_;
};

// The first run that ends behind a pixel.
inline size_t first_behind(const std::vector<Run>& runs, int64_t pixel) {
  return std::partition_point(runs.begin(), runs.end(), [&](const Run& run) { return run.end <= pixel; }) -
      runs.begin();
}

// Pixels that are in both.
inline int64_t intersection(const std::vector<Run>& first, const std::vector<Run>& second) {
  if (first.empty() || second.empty()) {
    return 0;
  }
  int64_t pixels = 0;
  size_t i = first_behind(first, second.front().begin), j = first_behind(second, first.front().begin);
  while (i < first.size() && j < second.size()) {
    const int64_t begin = std::max(first[i].begin, second[j].begin);
    const int64_t end = std::min(first[i].end, second[j].end);
    pixels += std::max<int64_t>(end - begin, 0);
    const bool ends = first[i].end < second[j].end;  // which of them ends first cannot be foreseen: no branch
    i += ends;
    j += !ends;
  }
  return pixels;
}

}  // namespace maskray
