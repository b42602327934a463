// What boxes see of masks that are kept as outlines: RoIAlign of the pixels that would be drawn, to the same bits.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "outline_masks.h"
#include "roi_taps.h"

namespace maskray {
namespace {

// RoIAlign of one mask in one box. Bins that the outline does not cross cost no sum.
template <class T>
class __attribute__((visibility("hidden"))) MaskCrop {
 public:
  MaskCrop(const OutlineArguments& outlines, int64_t height, int64_t width, int64_t size, bool aligned)
      : drawer_(outlines), height_(height), width_(width), settings_{size, size, 0, aligned} {}

  // put(bin, value): bins row after row, only those that are not 0. With `cut`, 1 for what is surely above one half.
  template <class Put>
  void crop(int64_t object, const T* box, bool cut, const Put& put) {
    const int64_t size = settings_.pooled_height;
    rows_.build_merged(roi_axis(box[1], box[3], size, T(1), settings_), size, height_);
    columns_.build_merged(roi_axis(box[0], box[2], size, T(1), settings_), size, width_);
    if (rows_.empty() || columns_.empty()) {
      return;
    }
    const int64_t top = rows_.lowest(), left = columns_.lowest();
    const Window window{top, left, rows_.highest() - top + 1, columns_.highest() - left + 1};
    rows_.shift(static_cast<int32_t>(-top));
    columns_.shift(static_cast<int32_t>(-left));
    drawer_.draw(object, window, mask_);
    any_.resize(window.columns);
    all_.resize(window.columns);
    const TapView<T> down = rows_.view(), across = columns_.view();
    const T count = sample_count(RoiAxes<T>{rows_.axis, columns_.axis});
    for (int64_t p = 0; p < size; ++p) {
      if (down.begin[p] == down.begin[p + 1]) {
        continue;
      }
      look_down(down.cell[down.begin[p]], down.cell[down.begin[p + 1] - 1], window.columns);
      for (int64_t q = 0; q < size; ++q) {
        const int64_t begin = across.begin[q], end = across.begin[q + 1];
        if (begin == end || !look_across(any_, across.cell[begin], across.cell[end - 1], false)) {
          continue;
        }
        const bool whole = rows_.outside()[p] == 0 && columns_.outside()[q] == 0;
        if (cut && whole && look_across(all_, across.cell[begin], across.cell[end - 1], true)) {
          put(p * size + q, T(1));
        } else {
          put(p * size + q, sum(p, q, window.columns) / count);
        }
      }
    }
  }

 private:
  // Which columns have a cell inside, and which have no other, from one row to another.
  void look_down(int64_t first, int64_t last, int64_t columns) {
    const uint8_t* cell = mask_.data() + first * columns;
    uint8_t *any = any_.data(), *all = all_.data();
    std::copy(cell, cell + columns, any);
    std::copy(cell, cell + columns, all);
    for (int64_t row = first + 1; row <= last; ++row) {
      cell += columns;
      for (int64_t c = 0; c < columns; ++c) {
        any[c] |= cell[c];
        all[c] &= cell[c];
      }
    }
  }

  // Whether one of the columns is set, or all of them.
  static bool look_across(const std::vector<uint8_t>& flags, int64_t first, int64_t last, bool all) {
    const auto begin = flags.begin() + first, end = flags.begin() + last + 1;
    return all ? std::find(begin, end, 0) == end : std::find(begin, end, 1) != end;
  }

  // In the order of roi_align, so that it rounds alike; what is 0 adds nothing.
  T sum(int64_t p, int64_t q, int64_t stride) const {
    const TapView<T> down = rows_.view(), across = columns_.view();
    T sum = T(0);
    for (int64_t r = down.begin[p]; r < down.begin[p + 1]; ++r) {
      const uint8_t* row = mask_.data() + down.cell[r] * stride;
      for (int64_t c = across.begin[q]; c < across.begin[q + 1]; ++c) {
        sum += row[across.cell[c]] != 0 ? down.weight[r] * across.weight[c] : T(0);
      }
    }
    return sum;
  }

  OutlineDrawer drawer_;
  int64_t height_, width_;
  RoiAlignSettings settings_;
  AxisTaps<T> rows_, columns_;
  std::vector<uint8_t> mask_, any_, all_;
};

template <class T>
void crop_all(
    const OutlineArguments& outlines, const int64_t* objects, const T* boxes, int64_t height, int64_t width,
    bool aligned, bool binary, Tensor& result) {
  const int64_t size = result.size(1);
  torch::stable::parallel_for(0, result.size(0), 1, [&](int64_t begin, int64_t end) {
    MaskCrop<T> crop(outlines, height, width, size, aligned);
    for (int64_t k = begin; k < end; ++k) {
      if (binary) {
        bool* out = static_cast<bool*>(result.mutable_data_ptr()) + k * size * size;
        crop.crop(objects[k], boxes + 4 * k, true, [&](int64_t bin, T value) { out[bin] = value >= T(0.5); });
      } else {
        T* out = static_cast<T*>(result.mutable_data_ptr()) + k * size * size;
        crop.crop(objects[k], boxes + 4 * k, false, [&](int64_t bin, T value) { out[bin] = value; });
      }
    }
  });
}

// The objects that `count` rows name, all there and readable: nothing is thrown later, in other threads.
const int64_t* check_index(const OutlineArguments& outlines, const Tensor& index, int64_t count) {
  check(
      index.dim() == 1 && index.size(0) == count && index.scalar_type() == ScalarType::Long,
      "index: expected int64 (K,)");
  const int64_t* objects = static_cast<const int64_t*>(index.const_data_ptr());
  std::vector<bool> read(outlines.count());
  for (int64_t k = 0; k < count; ++k) {
    const bool exists = objects[k] >= 0 && objects[k] < outlines.count();
    check(exists, "index: row ", k, " names object ", objects[k], " of ", outlines.count());
    if (!read[objects[k]]) {
      outlines.visit_runs(objects[k], [](int64_t, int64_t) {});
      read[objects[k]] = true;
    }
  }
  return objects;
}

Tensor crop_outlines(
    Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor text, Tensor text_offsets,
    Tensor placements, Tensor index, Tensor boxes, int64_t height, int64_t width, int64_t size, bool aligned,
    bool binary) {
  const OutlineArguments outlines(coordinates, polygon_offsets, object_offsets, text, text_offsets, placements);
  const bool wide = boxes.scalar_type() == ScalarType::Double;
  check(
      boxes.dim() == 2 && boxes.size(1) == 4 && (wide || boxes.scalar_type() == ScalarType::Float),
      "boxes: expected float32 or float64 (K, 4)");
  check(size > 0 && size <= 1 << 10, "mask_size: expected 1..1024");
  check(
      height > 0 && width > 0 && height <= kMostCanvas && width <= kMostCanvas && height * width <= kMostPixels,
      "size: expected two positive numbers, of at most 2**30 pixels");
  const Tensor dense_index = torch::stable::contiguous(index), dense_boxes = torch::stable::contiguous(boxes);
  const int64_t* objects = check_index(outlines, dense_index, boxes.size(0));
  Tensor result = torch::stable::new_zeros(
      dense_boxes, {boxes.size(0), size, size}, binary ? ScalarType::Bool : boxes.scalar_type());
  wide ? crop_all(
             outlines, objects, static_cast<const double*>(dense_boxes.const_data_ptr()), height, width, aligned,
             binary, result)
       : crop_all(
             outlines, objects, static_cast<const float*>(dense_boxes.const_data_ptr()), height, width, aligned, binary,
             result);
  return result;
}

Tensor draw_outlines(
    Tensor coordinates, Tensor polygon_offsets, Tensor object_offsets, Tensor text, Tensor text_offsets,
    Tensor placements, Tensor index, Tensor windows) {
  const OutlineArguments outlines(coordinates, polygon_offsets, object_offsets, text, text_offsets, placements);
  check(
      windows.dim() == 2 && windows.size(1) == 4 && windows.scalar_type() == ScalarType::Long,
      "windows: expected int64 (K, 4)");
  const Tensor dense_index = torch::stable::contiguous(index), dense_windows = torch::stable::contiguous(windows);
  const int64_t* objects = check_index(outlines, dense_index, windows.size(0));
  const Window* window = static_cast<const Window*>(dense_windows.const_data_ptr());
  int64_t total = 0;
  for (int64_t k = 0; k < windows.size(0); ++k) {
    const auto [top, left, rows, columns] = window[k];
    const auto near = [](int64_t place) { return place >= -kMostCanvas && place <= kMostCanvas; };
    const bool sized = rows >= 0 && columns >= 0 && rows <= kMostCanvas && columns <= kMostCanvas;
    check(
        near(top) && near(left) && sized && rows * columns <= kMostPixels - total, "windows: row ", k,
        " is no possible window");
    total += rows * columns;
  }
  Tensor result = torch::stable::new_empty(dense_index, {total}, ScalarType::Byte);
  uint8_t* out = static_cast<uint8_t*>(result.mutable_data_ptr());
  OutlineDrawer drawer(outlines);
  std::vector<uint8_t> mask;
  for (int64_t k = 0; k < windows.size(0); ++k) {
    drawer.draw(objects[k], window[k], mask);
    out = std::copy(mask.begin(), mask.end(), out);
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) {
  m.impl("crop_outlines", TORCH_BOX(&crop_outlines));
  m.impl("draw_outlines", TORCH_BOX(&draw_outlines));
}

}  // namespace maskray
