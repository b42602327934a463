// Pasting masks on the CPU: first along the rows of the mask, then row by row of the image; masks in parallel.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <vector>

#include "../paste_geometry.h"

namespace maskray {
namespace {

template <class T>
void paste_mask(
    const T* mask, const PasteAxis<T>& rows, const PasteAxis<T>& columns, int64_t height, int64_t width, T threshold,
    bool* result) {
  if (!rows.is_usable() || !columns.is_usable()) {
    return;
  }
  const int64_t left = columns.first_pixel(T(-1), width);
  const int64_t count = columns.first_pixel(static_cast<T>(columns.num_cells), width) - left;
  // One row more on either side, of zeros.
  std::vector<T> stretched((rows.num_cells + 2) * count, T(0));
  for (int64_t x = 0; x < count; ++x) {
    const T position = columns.position(left + x);
    const T cell = std::floor(position);
    const int64_t before = static_cast<int64_t>(cell);
    for (int64_t row = 0; row < rows.num_cells; ++row) {
      const T* values = mask + row * columns.num_cells;
      const T first = before >= 0 ? values[before] : T(0);
      const T second = before + 1 < columns.num_cells ? values[before + 1] : T(0);
      stretched[(row + 1) * count + x] = blend(first, second, position - cell);
    }
  }
  const int64_t bottom = rows.first_pixel(static_cast<T>(rows.num_cells), height);
  for (int64_t y = rows.first_pixel(T(-1), height); y < bottom; ++y) {
    const T position = rows.position(y);
    const T cell = std::floor(position);
    const T* above = stretched.data() + (static_cast<int64_t>(cell) + 1) * count;
    bool* pixels = result + y * width + left;
    for (int64_t x = 0; x < count; ++x) {
      pixels[x] = blend(above[x], above[count + x], position - cell) >= threshold;
    }
  }
}

template <class T>
void paste(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold, Tensor& result) {
  const T* values = static_cast<const T*>(masks.const_data_ptr());
  const T* corners = static_cast<const T*>(boxes.const_data_ptr());
  bool* pixels = static_cast<bool*>(result.mutable_data_ptr());
  const int64_t num_rows = masks.size(1), num_columns = masks.size(2);
  torch::stable::parallel_for(0, masks.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) {
      const T* box = corners + 4 * d;
      paste_mask(
          values + d * num_rows * num_columns, PasteAxis<T>(box[1], box[3], num_rows),
          PasteAxis<T>(box[0], box[2], num_columns), height, width, static_cast<T>(threshold),
          pixels + d * height * width);
    }
  });
}

Tensor paste_masks(Tensor masks, Tensor boxes, int64_t height, int64_t width, double threshold) {
  check_paste_arguments(masks, boxes, height, width, threshold);
  Tensor result = torch::stable::new_zeros(masks, {masks.size(0), height, width}, ScalarType::Bool);
  if (masks.numel() > 0) {
    const Tensor dense = torch::stable::contiguous(masks);
    const Tensor dense_boxes = torch::stable::contiguous(boxes);
    masks.scalar_type() == ScalarType::Double ? paste<double>(dense, dense_boxes, height, width, threshold, result)
                                              : paste<float>(dense, dense_boxes, height, width, threshold, result);
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(maskray, CPU, m) { m.impl("paste_masks", TORCH_BOX(&paste_masks)); }

}  // namespace maskray
