// The run-length encoding of pasted masks, without their pixels: per column of the image, only the ends of the stretch
// between two cells are computed, and where these differ the change between them is searched for by halving.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "../paste_geometry.h"
#include "rle_text.h"

namespace maskray {
namespace {

// For each pair of neighbouring cells (the first is the border of zeros and cell 0): the pixels between their centres.
template <class T>
struct Stretches {
  std::vector<int64_t> bounds;  // of stretch i: pixels bounds[i]..bounds[i + 1] - 1
  std::vector<T> first_fraction, last_fraction;

  Stretches(const PasteAxis<T>& axis, int64_t num_pixels)
      : bounds(axis.num_cells + 2), first_fraction(axis.num_cells + 1), last_fraction(axis.num_cells + 1) {
    for (int64_t i = 0; i < axis.num_cells + 2; ++i) {
      bounds[i] = axis.first_pixel(static_cast<T>(i - 1), num_pixels);
    }
    for (int64_t i = 0; i < axis.num_cells + 1; ++i) {
      if (bounds[i] < bounds[i + 1]) {
        first_fraction[i] = axis.position(bounds[i]) - static_cast<T>(i - 1);
        last_fraction[i] = axis.position(bounds[i + 1] - 1) - static_cast<T>(i - 1);
      }
    }
  }
};

// The mask with a border of zeros, column by column.
template <class T>
std::vector<T> padded_columns(const T* mask, int64_t num_rows, int64_t num_columns) {
  std::vector<T> padded((num_rows + 2) * (num_columns + 2), T(0));
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t column = 0; column < num_columns; ++column) {
      padded[(column + 1) * (num_rows + 2) + row + 1] = mask[row * num_columns + column];
    }
  }
  return padded;
}

// The runs of one column of the image, given the values at its cells.
template <class T>
class Column {
 public:
  Column(const PasteAxis<T>& rows, int64_t height, T threshold)
      : rows_(rows), stretches_(rows, height), threshold_(threshold), values_(rows.num_cells + 2),
        ends_(rows.num_cells + 1) {}

  void add_runs(const T* before, const T* after, T fraction, int64_t offset, RleWriter& writer) {
    for (int64_t i = 0; i < rows_.num_cells + 2; ++i) {
      values_[i] = blend(before[i], after[i], fraction);
    }
    for (int64_t i = 0; i < rows_.num_cells + 1; ++i) {
      const bool first = blend(values_[i], values_[i + 1], stretches_.first_fraction[i]) >= threshold_;
      const bool last = blend(values_[i], values_[i + 1], stretches_.last_fraction[i]) >= threshold_;
      ends_[i] = static_cast<uint8_t>(first | last << 1);
    }
    for (int64_t i = 0; i < rows_.num_cells + 1; ++i) {
      const int64_t begin = stretches_.bounds[i], end = stretches_.bounds[i + 1];
      if (ends_[i] == 0 || begin == end) {
        continue;
      }
      const bool falls = ends_[i] == 1, rises = ends_[i] == 2;
      const int64_t change = falls || rises ? first_unlike(i, rises) : begin;
      writer.add_ones(offset + (rises ? change : begin), offset + (falls ? change : end));
    }
  }

 private:
  // The first pixel of stretch i that is inside when the stretch rises, or outside when it falls.
  int64_t first_unlike(int64_t i, bool rises) const {
    int64_t low = stretches_.bounds[i], high = stretches_.bounds[i + 1] - 1;
    while (low + 1 < high) {
      const int64_t middle = low + (high - low) / 2;
      const T fraction = rows_.position(middle) - static_cast<T>(i - 1);
      const bool inside = blend(values_[i], values_[i + 1], fraction) >= threshold_;
      (inside == rises ? high : low) = middle;
    }
    return high;
  }

  PasteAxis<T> rows_;
  Stretches<T> stretches_;
  T threshold_;
  std::vector<T> values_;
  std::vector<uint8_t> ends_;  // bit 0: the first pixel of the stretch is inside, bit 1: the last
};

template <class T>
std::vector<uint8_t> encode_mask(
    const T* mask, const PasteAxis<T>& rows, const PasteAxis<T>& columns, int64_t height, int64_t width, T threshold) {
  RleWriter writer;
  if (rows.is_usable() && columns.is_usable()) {
    const std::vector<T> padded = padded_columns(mask, rows.num_cells, columns.num_cells);
    Column<T> column(rows, height, threshold);
    const int64_t right = columns.first_pixel(static_cast<T>(columns.num_cells), width);
    for (int64_t x = columns.first_pixel(T(-1), width); x < right; ++x) {
      const T position = columns.position(x);
      const T cell = std::floor(position);
      const T* before = padded.data() + (static_cast<int64_t>(cell) + 1) * (rows.num_cells + 2);
      column.add_runs(before, before + rows.num_cells + 2, position - cell, x * height, writer);
    }
  }
  return writer.finish(height * width);
}

template <class T>
std::vector<std::vector<uint8_t>> encode(
    const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold) {
  const T* values = static_cast<const T*>(masks.const_data_ptr());
  const T* corners = static_cast<const T*>(boxes.const_data_ptr());
  const int64_t num_rows = masks.size(1), num_columns = masks.size(2);
  std::vector<std::vector<uint8_t>> texts(masks.size(0));
  torch::stable::parallel_for(0, masks.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) {
      const T* box = corners + 4 * d;
      texts[d] = encode_mask(
          values + d * num_rows * num_columns, PasteAxis<T>(box[1], box[3], num_rows),
          PasteAxis<T>(box[0], box[2], num_columns), height, width, static_cast<T>(threshold));
    }
  });
  return texts;
}

std::tuple<Tensor, Tensor> paste_masks_to_rle(
    Tensor masks, Tensor boxes, int64_t height, int64_t width, double threshold) {
  check_paste_arguments(masks, boxes, height, width, threshold);
  const Tensor dense = torch::stable::contiguous(masks);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  const std::vector<std::vector<uint8_t>> texts = masks.scalar_type() == ScalarType::Double
      ? encode<double>(dense, dense_boxes, height, width, threshold)
      : encode<float>(dense, dense_boxes, height, width, threshold);
  Tensor offsets = torch::stable::new_empty(dense, {masks.size(0) + 1}, ScalarType::Long);
  int64_t* offset = static_cast<int64_t*>(offsets.mutable_data_ptr());
  offset[0] = 0;
  for (size_t d = 0; d < texts.size(); ++d) {
    offset[d + 1] = offset[d] + static_cast<int64_t>(texts[d].size());
  }
  Tensor text = torch::stable::new_empty(dense, {offset[texts.size()]}, ScalarType::Byte);
  uint8_t* bytes = static_cast<uint8_t*>(text.mutable_data_ptr());
  for (size_t d = 0; d < texts.size(); ++d) {
    std::copy(texts[d].begin(), texts[d].end(), bytes + offset[d]);
  }
  return {text, offsets};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("paste_masks_to_rle", TORCH_BOX(&paste_masks_to_rle)); }

}  // namespace maskray
