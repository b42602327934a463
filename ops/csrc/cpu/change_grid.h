// A window of a mask, kept as the cells at which inside and outside change when one goes down a column.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace maskray {

// Rows top .. top + rows - 1 and columns left .. left + columns - 1 of something larger.
struct Window {
  int64_t top, left, rows, columns;

  bool empty() const { return rows <= 0 || columns <= 0; }
  int64_t cells() const { return empty() ? 0 : rows * columns; }
  // What lies in a map of height x width cells too.
  Window within(int64_t height, int64_t width) const {
    const int64_t bottom = std::min(top + rows, height), right = std::min(left + columns, width);
    const int64_t first_row = std::max<int64_t>(top, 0), first_column = std::max<int64_t>(left, 0);
    return {first_row, first_column, bottom - first_row, right - first_column};
  }
};

class ChangeGrid {
 public:
  // All of the window outside.
  void start(const Window& window) {
    window_ = window;
    changes_.assign(window.cells(), 0);
    inside_.assign(window.columns, 0);
    forget();
  }

  int64_t first_column() const { return window_.left; }
  int64_t last_column() const { return window_.left + window_.columns - 1; }

  // From a row on, down its column, inside and outside change places; the column must be one of the window.
  void toggle(int64_t row, int64_t column) {
    const int64_t r = std::max<int64_t>(row - window_.top, 0), c = column - window_.left;
    low_column_ = std::min(low_column_, c);
    high_column_ = std::max(high_column_, c);
    high_row_ = std::max(high_row_, std::min(r, window_.rows - 1));
    if (r < window_.rows) {
      low_row_ = std::min(low_row_, r);
      changes_[r * window_.columns + c] ^= 1;
    }
  }

  // Pixels first .. last - 1 of a canvas of `height` rows, counted down its columns, are inside.
  void add_run(int64_t first, int64_t last, int64_t height) {
    const int64_t low = std::max(first / height, first_column());
    const int64_t high = std::min((last - 1) / height, last_column());
    for (int64_t column = low; column <= high; ++column) {
      const int64_t begin = std::max(first - column * height, window_.top);
      const int64_t end = std::min({last - column * height, height, window_.top + window_.rows});
      if (begin < end) {
        toggle(begin, column);
        toggle(end, column);
      }
    }
  }

  // Adds what is inside to a mask of the window, row after row, and is left all outside.
  void fill(uint8_t* mask) {
    const int64_t columns = high_column_ - low_column_ + 1;
    if (columns <= 0) {
      return;
    }
    uint8_t* inside = inside_.data();
    for (int64_t row = low_row_; row <= high_row_; ++row) {
      uint8_t* change = changes_.data() + row * window_.columns + low_column_;
      uint8_t* cell = mask + row * window_.columns + low_column_;
      for (int64_t c = 0; c < columns; ++c) {
        inside[c] ^= change[c];
        change[c] = 0;
        cell[c] |= inside[c];
      }
    }
    std::fill(inside, inside + columns, uint8_t(0));
    forget();
  }

 private:
  void forget() {
    low_row_ = window_.rows;
    low_column_ = window_.columns;
    high_row_ = high_column_ = -1;
  }

  Window window_{};
  std::vector<uint8_t> changes_, inside_;
  int64_t low_row_ = 0, high_row_ = -1, low_column_ = 0, high_column_ = -1;  // where there are changes
};

}  // namespace maskray
